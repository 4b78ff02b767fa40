//! What is learned of an upstream, on /metrics.

use std::time::Duration;

use rstrace_tests::netns::{Family, Link};
use rstrace_tests::nginx::GatewayOptions;
use rstrace_tests::process::poll;
use rstrace_tests::scene::{Plan, Scene, play};

fn idle_limit(scene: &mut Scene, of: &[(&str, &str)]) -> Option<f64> {
    let scrape = scene.agent().and_then(|agent| agent.scrape()).ok()?;
    scrape.matching("rstrace_upstream_idle_limit_seconds", of).next().map(|sample| sample.value)
}

#[test]
fn the_idle_limit_of_an_upstream_is_known_after_three_closes() {
    let gateway = GatewayOptions { keepalive: true, ..GatewayOptions::default() };
    let played = play(Link::Veth, Family::V4, &Plan { gateway, ..Plan::default() }, |scene| {
        let upstream = scene.upstream();
        let limit = [("upstream", upstream.as_str())];
        for closes in 1..=3 {
            assert_eq!(idle_limit(scene, &limit), None, "after {} closes", closes - 1);
            scene.demand("/idle/2000", 200)?;
            let fins = [limit[0], ("direction", "received"), ("phase", "answered")];
            poll("the idle close", Duration::from_secs(10), || {
                let scrape = scene.agent().and_then(|agent| agent.scrape()).ok()?;
                (scrape.sum("rstrace_upstream_fins_total", &fins) == f64::from(closes)).then_some(())
            })?;
        }
        // The close is counted in the kernel, its age comes to the agent a moment later. (The server's timer may be late on
        // a busy machine; then its three ages are not alike, and it takes more closes.)
        let mut seconds = None;
        for _ in 0..10 {
            seconds = poll("the idle limit", Duration::from_secs(3), || idle_limit(scene, &limit)).ok();
            if seconds.is_some() {
                break;
            }
            scene.demand("/idle/2000", 200)?;
        }
        // The kernel's own times are in ticks, of 10 ms at most.
        assert!(seconds.is_some_and(|seconds| (1.97..2.3).contains(&seconds)), "{seconds:?}");
        scene.expect_silence()
    });
    if let Err(error) = played {
        panic!("{error:#}");
    }
}
