use jiff::tz::TimeZone;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Color;

use super::*;
use crate::output::VerdictView;
use crate::top::fixture::{at, lost, now};
use crate::top::input::Press;
use crate::verdict::{By, Cause, Impact};

const PLAIN: Look = Look { colours: false };

/// The screen as text, one line a row, without blanks at their ends.
fn screen(app: &mut App, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| {
            draw(app, now(), PLAIN, frame.buffer_mut());
        })
        .unwrap();
    let buffer = terminal.backend().buffer();
    assert!(buffer.content().iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    text(buffer)
}

fn text(buffer: &Buffer) -> String {
    let mut lines = String::new();
    for y in 0..buffer.area().height {
        let mut line = String::new();
        let mut x = 0;
        while x < buffer.area().width {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += u16::try_from(textwrap::core::display_width(symbol).max(1)).unwrap();
        }
        lines.push_str(line.trim_end());
        lines.push('\n');
    }
    lines
}

/// An outage: one upstream that is killed again and again, one that is gone, and some noise.
fn outage() -> App {
    let mut app = App::new(at(-900), String::new(), TimeZone::UTC);
    app.link = Link::Live;
    app.host = "gw-1".to_owned();
    for second in 0..30 {
        app.take(lost("10.0.3.7:9000", second));
    }
    for second in [-500, -400, -30, 25] {
        app.take(VerdictView {
            cause: Cause::NoListener,
            impact: Impact::ConnectFailed,
            summary: "nothing listens on 10.0.3.7:9000; 2 s ago php-fpm[4242] did".to_owned(),
            ..lost("10.0.3.7:9000", second)
        });
    }
    for second in [-800, -700, -60] {
        app.take(VerdictView {
            cause: Cause::ClosedWithoutResponse,
            summary: "nginx[812] lost a request: closed by the upstream without an answer".to_owned(),
            ..lost("[2001:db8:85a3:8d3:1319:8a2e:370:7348]:65535", second)
        });
    }
    app.take(VerdictView {
        by: By::Unknown,
        cause: Cause::Unknown,
        impact: Impact::Unknown,
        ..lost("unix:/run/php/php8.2-fpm.sock", 3)
    });
    app
}

fn press(app: &mut App, keys: &[Press]) {
    for key in keys {
        app.press(*key, now(), 10);
    }
}

/// The first lines of a screen.
fn top(text: &str, lines: usize) -> Vec<&str> {
    text.lines().take(lines).collect()
}

#[test]
fn eighty_columns_hold_what_matters() {
    let text = screen(&mut outage(), 80, 24);
    assert_eq!(
        top(&text, 5),
        [
            "rstrace top  37+1? lost  rate 1.0/s  since 07:45:00  on gw-1                live",
            "UPSTREAM                 LOST▼    RATE LAST 15MIN BY       CAUSE             AGO",
            "10.0.3.7:9000               34   1.0/s    ▁▁   ▁█ upstream no_listener +1     1s",
            "[2001:d…:370:7348]:65535     3       - ██      █  upstream closed_without_…   1m",
            "unix:/r…/php8.2-fpm.sock    1?   1/min          █ unknown  unknown           27s",
        ],
        "{text}"
    );
    let last: Vec<_> = text.lines().skip(19).collect();
    assert_eq!(
        last,
        [
            "── 10.0.3.7:9000: oom_killed 30, no_listener 4 ─────────────────────────────────",
            "08:00:25.000  by upstream  connect_failed  proven",
            "nothing listens on 10.0.3.7:9000; 2 s ago php-fpm[4242] did",
            "",
            "Enter evidence  s sort  r reverse  / filter  space pause  ? help  q quit",
        ],
        "{text}"
    );
}

#[test]
fn a_wide_screen_says_more_and_a_small_one_the_most_important() {
    let wide = screen(&mut outage(), 160, 40);
    assert!(wide.contains("LAST TIME") && wide.contains("unix:/run/php/php8.2-fpm.sock "), "{wide}");
    assert!(wide.contains("closed_without_response "), "{wide}");
    let middle = screen(&mut outage(), 120, 40);
    assert!(middle.contains("[2001:db8:85a3:8d3:1319:8a2e:370:7348]:65535"), "{middle}");
    let small = screen(&mut outage(), 40, 10);
    assert_eq!(
        top(&small, 5),
        [
            "37+1? lost  rate 1.0/s              live",
            "UPSTREAM           LOST▼ CAUSE",
            "10.0.3.7:9000         34 no_listener +1",
            "[2001…:7348]:65535     3 closed_withou…",
            "unix:…8.2-fpm.sock    1? unknown",
        ],
        "{small}"
    );
}

#[test]
fn no_size_is_too_small() {
    for keys in [&[][..], &[Press::Enter], &[Press::Char('?')], &[Press::Char('/'), Press::Char('x')]] {
        let mut app = outage();
        press(&mut app, keys);
        for (width, height) in [(1, 1), (2, 2), (5, 3), (8, 4), (12, 15), (19, 24), (300, 3)] {
            screen(&mut app, width, height);
        }
    }
}

#[test]
fn an_open_upstream_shows_its_verdicts_with_their_evidence() {
    let mut app = outage();
    press(&mut app, &[Press::Enter]);
    let text = screen(&mut app, 80, 24);
    for line in [
        "34 lost, 1.0/s; first 07:51:40.000, last 08:00:29.000 (1s ago)",
        "  30 x oom_killed by upstream",
        "08:00:25.000  no_listener  connect_failed  by upstream  proven",
        "  - php-fpm[4242] ended by SIGKILL",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}: {text}");
    }
    press(&mut app, &[Press::Last]);
    let end = screen(&mut app, 80, 24);
    assert!(end.contains("08:00:00.000  oom_killed") && !end.contains("34 lost, 1.0/s"), "{end}");
    press(&mut app, &[Press::Up]);
    assert_ne!(screen(&mut app, 80, 24), end, "one line up from the very end");
}

#[test]
fn hostile_and_wide_names_stay_within_their_columns() {
    let mut app = outage();
    let hostile = |second: i64| VerdictView {
        summary: "evil\u{1b}]0;x\u{7}[1] reset \u{202e}it 短い名前 \u{1f469}\u{200d}\u{1f4bb}".to_owned(),
        scope: "コンテナ\u{1b}[31m".to_owned(),
        evidence: vec!["e\u{301}\u{9b}31m\nnext".to_owned()],
        ..lost("unix:/run/\u{1b}[2J短い名前のソケット.sock", second % 30)
    };
    (0..90).for_each(|second| app.take(hostile(second)));
    for (width, height) in [(80, 24), (120, 40), (40, 10), (61, 17)] {
        for keys in [&[][..], &[Press::Enter]] {
            let mut app = App::new(at(-900), String::new(), TimeZone::UTC);
            (0..90).for_each(|second| app.take(hostile(second)));
            press(&mut app, keys);
            let text = screen(&mut app, width, height);
            assert!(!text.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'), "{text:?}");
            for line in text.lines() {
                assert!(textwrap::core::display_width(line) <= usize::from(width), "{line}");
            }
        }
    }
    let text = screen(&mut app, 80, 24);
    let row = text.lines().find(|line| line.contains("ケット.sock  ")).unwrap();
    let column = |line: &str, what: &str| textwrap::core::display_width(&line[..line.find(what).unwrap()]);
    let titles = text.lines().find(|line| line.starts_with("UPSTREAM")).unwrap();
    assert_eq!(column(titles, "CAUSE"), column(row, "oom_killed"), "{text}");
    assert!(titles.contains("SEEN"), "{text}");
}

#[test]
fn what_has_to_be_known_is_said() {
    let mut app = outage();
    app.link = Link::Gone("the agent has ended".to_owned());
    app.given = "by=upstream".to_owned();
    let text = screen(&mut app, 80, 24);
    assert!(text.contains("NO AGENT") && text.contains("the agent has ended; asking again"), "{text}");
    assert!(text.contains("only: by=upstream"), "{text}");
    press(&mut app, &[Press::Char(' ')]);
    app.take(lost("a", 1));
    assert!(screen(&mut app, 80, 24).contains("PAUSED, 1 more"));

    let mut app = App::new(at(-900), String::new(), TimeZone::UTC);
    assert!(screen(&mut app, 80, 24).contains("asking the agent"));
    app.link = Link::Live;
    assert!(screen(&mut app, 80, 24).contains("No request was lost since 07:45:00"));
    app.refuse("cause=luck".to_owned(), "`luck` is no cause".to_owned());
    assert!(screen(&mut app, 80, 24).contains("/cause=luck  `luck` is no cause"));
}

#[test]
fn the_selected_row_is_always_on_the_screen() {
    let mut app = App::new(at(-900), String::new(), TimeZone::UTC);
    for i in 0..100 {
        app.take(lost(&format!("10.0.0.{i}:80"), 0));
    }
    for keys in [&[Press::Last][..], &[Press::Up, Press::Up], &[Press::First], &[Press::PageDown]] {
        press(&mut app, keys);
        let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
        draw(&mut app, now(), PLAIN, &mut buffer);
        let reversed = (0..24).filter(|y| buffer[(0, *y)].modifier.contains(Modifier::REVERSED)).count();
        assert_eq!(reversed, 1, "{keys:?}");
    }
}
