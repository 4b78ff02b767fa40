fn main() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let t = std::time::Instant::now();
        let (mut k, mut ring, existing) = match tracer_agent::kernel::Kernel::load(&Default::default()) { Ok(x) => x, Err(e) => { println!("{e}"); return } };
        println!("loaded in {:?}, existing {}", t.elapsed(), existing.len());
        for h in &k.hooks { println!("{} {:?} {:?}", h.hook.name, h.attached, h.reasons); }
        for e in existing.iter().take(5) { println!("{e:?}"); }
        if std::env::args().nth(1).is_some() { k.queue_all_ends(true).unwrap(); }
        println!("{}", std::fs::read_to_string("/proc/self/status").unwrap().lines().filter(|l| l.starts_with("VmRSS")||l.starts_with("VmHWM")||l.starts_with("Rss")).collect::<Vec<_>>().join(" "));
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(8);
        loop {
            tokio::select! { _ = tokio::time::sleep_until(end) => break, r = ring.read(|e| println!("{e:?}")) => { r.unwrap(); } }
        }
        println!("{:?}", k.counters().unwrap());
    });
}
