//! What the keys have chosen: the order, the filter, the row, what is open. Pure: keys and lines of the stream in,
//! what is to be done out.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::board::{Board, Key};
use super::input::Press;
use super::row::{Order, Row};
use super::upstream::Upstream;
use crate::output::state::UpstreamState;
use crate::output::{Omitted, VerdictView};

/// Longest filter that can be typed.
const MAX_TYPED: usize = 500;

/// Everything that the screen shows.
pub struct App {
    /// What the stream says, also while the screen is paused.
    live: Board,
    /// What the screen shows while it is paused, and since when.
    frozen: Option<(Board, Timestamp)>,
    pub order: Order,
    /// The filter as it was typed, and its words that are none of the command line's.
    pub typed: String,
    pub words: Vec<String>,
    pub open: Open,
    /// None is the first row, whichever that is.
    selected: Option<Key>,
    pub link: Link,
    pub host: String,
    /// From when on verdicts are counted.
    pub since: Timestamp,
    /// The filter of the command line, in words.
    pub given: String,
    pub zone: TimeZone,
}

/// What is open.
#[derive(Clone, Debug)]
pub enum Open {
    Table,
    /// One upstream, as it was when the reader began to scroll.
    Upstream {
        key: Key,
        shown: Box<Upstream>,
        scroll: usize,
    },
    Help {
        scroll: usize,
    },
    /// A filter is being typed; the error is that of the last try.
    Typing {
        text: String,
        error: Option<String>,
    },
}

/// The stream of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    Asked,
    Live,
    /// Why there is none; it is asked for again and again.
    Gone(String),
}

/// What a key asks of those who own the terminal and the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Nothing,
    Quit,
    Suspend,
    Repaint,
    /// Count anew, with this filter.
    Search(String),
}

impl App {
    #[must_use]
    pub fn new(since: Timestamp, given: String, zone: TimeZone) -> Self {
        Self {
            live: Board::default(),
            frozen: None,
            order: Order::default(),
            typed: String::new(),
            words: Vec::new(),
            open: Open::Table,
            selected: None,
            link: Link::Asked,
            host: String::new(),
            since,
            given,
            zone,
        }
    }

    /// Counts a verdict.
    pub fn take(&mut self, view: VerdictView) {
        self.live.take(view);
    }

    /// What the agent has learned of its upstreams until now.
    pub fn learn(&mut self, upstreams: Vec<UpstreamState>) {
        self.live.learn(upstreams);
    }

    /// Counts lines that the agent left out.
    pub fn miss(&mut self, omitted: &Omitted) {
        self.live.miss(omitted);
    }

    /// Begins anew: the stream that comes now answers to another filter.
    pub fn begin(&mut self, typed: String, words: Vec<String>, since: Timestamp) {
        self.live = Board::default();
        self.frozen = None;
        self.link = Link::Asked;
        self.open = Open::Table;
        self.typed = typed;
        self.words = words;
        self.since = since;
    }

    /// Says why what was typed is no filter.
    pub fn refuse(&mut self, text: String, error: String) {
        self.open = Open::Typing { text, error: Some(error) };
    }

    /// What is shown: the live board, or the one that was frozen.
    #[must_use]
    pub fn board(&self) -> &Board {
        self.frozen.as_ref().map_or(&self.live, |(board, _)| board)
    }

    /// Since when the screen stands still, and how many verdicts came since.
    #[must_use]
    pub fn paused(&self) -> Option<(Timestamp, u64)> {
        let (frozen, at) = self.frozen.as_ref()?;
        Some((*at, self.live.counts().all().saturating_sub(frozen.counts().all())))
    }

    /// The moment that is shown.
    #[must_use]
    pub fn moment(&self, now: Timestamp) -> Timestamp {
        self.frozen.as_ref().map_or(now, |(_, at)| *at)
    }

    /// Whether what is shown changes with time alone.
    #[must_use]
    pub fn ages(&self) -> bool {
        self.frozen.is_none() && !self.live.is_empty() && !matches!(self.open, Open::Help { .. })
    }

    /// The rows as they are shown.
    #[must_use]
    pub fn rows(&self, now: Timestamp) -> Vec<Row<'_>> {
        self.board().rows(self.moment(now), self.order, &self.words)
    }

    /// Which of the rows is selected.
    #[must_use]
    pub fn selected(&self, rows: &[Row<'_>]) -> usize {
        let selected = self.selected.as_ref();
        selected.and_then(|key| rows.iter().position(|row| row.key == key)).unwrap_or(0)
    }

    /// Takes what has come since into the open upstream, unless somebody reads on further below.
    pub fn refresh(&mut self) {
        let board = self.frozen.as_ref().map_or(&self.live, |(board, _)| board);
        if let Open::Upstream { key, shown, scroll: 0 } = &mut self.open
            && let Some(upstream) = board.get(key)
        {
            **shown = upstream.clone();
        }
    }

    /// A key; `page` is how many rows a page has.
    pub fn press(&mut self, press: Press, now: Timestamp, page: usize) -> Effect {
        match (press, &mut self.open) {
            (Press::Interrupt, _) => Effect::Quit,
            (Press::Suspend, _) => Effect::Suspend,
            (Press::Redraw, _) => Effect::Repaint,
            (_, Open::Typing { .. }) => self.press_while_typing(press),
            (Press::Char(' '), _) => {
                self.pause(now);
                Effect::Nothing
            }
            (_, Open::Upstream { scroll, .. } | Open::Help { scroll }) => {
                match press {
                    Press::Escape | Press::Enter | Press::Backspace | Press::Char('q' | '?' | 'h') => {
                        self.open = Open::Table;
                    }
                    _ => *scroll = moved(press, *scroll, usize::MAX, page).unwrap_or(*scroll),
                }
                Effect::Nothing
            }
            (_, Open::Table) => self.press_in_table(press, now, page),
        }
    }

    fn press_in_table(&mut self, press: Press, now: Timestamp, page: usize) -> Effect {
        match press {
            Press::Char('q') => return Effect::Quit,
            Press::Escape if self.typed.is_empty() => return Effect::Quit,
            Press::Escape => return Effect::Search(String::new()),
            Press::Char('?' | 'h') => self.open = Open::Help { scroll: 0 },
            Press::Char('/') => self.open = Open::Typing { text: self.typed.clone(), error: None },
            Press::Char('s' | '>') => self.order = self.order.moved(1),
            Press::Char('S' | '<') => self.order = self.order.moved(Order::COLUMNS.len() - 1),
            Press::Char('r') => self.order.reversed = !self.order.reversed,
            Press::Enter => {
                let rows = self.rows(now);
                if let Some(row) = rows.get(self.selected(&rows)) {
                    let (key, shown) = (row.key.clone(), Box::new(row.upstream.clone()));
                    self.selected = Some(key.clone());
                    self.open = Open::Upstream { key, shown, scroll: 0 };
                }
            }
            _ => {
                let rows = self.rows(now);
                let last = rows.len().saturating_sub(1);
                if let Some(to) = moved(press, self.selected(&rows), last, page) {
                    // Who goes back to the top wants to see whatever is there.
                    self.selected = if to == 0 { None } else { rows.get(to).map(|row| row.key.clone()) };
                }
            }
        }
        Effect::Nothing
    }

    fn press_while_typing(&mut self, press: Press) -> Effect {
        let Open::Typing { text, error } = &mut self.open else { return Effect::Nothing };
        match press {
            Press::Char(c) if text.len() < MAX_TYPED => {
                *error = None;
                text.push(c);
            }
            Press::Backspace => {
                text.pop();
            }
            Press::Clear => text.clear(),
            Press::Escape => self.open = Open::Table,
            Press::Enter => return Effect::Search(std::mem::take(text)),
            _ => {}
        }
        Effect::Nothing
    }

    fn pause(&mut self, now: Timestamp) {
        self.frozen = match self.frozen {
            Some(_) => None,
            None => Some((self.live.clone(), now)),
        };
    }
}

/// Where a key moves to, of `0..=last`.
fn moved(press: Press, from: usize, last: usize, page: usize) -> Option<usize> {
    let to = match press {
        Press::Up | Press::Char('k') => from.saturating_sub(1),
        Press::Down | Press::Char('j') => from.saturating_add(1),
        Press::PageUp | Press::Char('b') => from.saturating_sub(page),
        Press::PageDown | Press::Char('f') => from.saturating_add(page),
        Press::First | Press::Char('g') => 0,
        Press::Last | Press::Char('G') => last,
        _ => return None,
    };
    Some(to.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::fixture::{lost, now};
    use crate::top::row::Column;

    fn app() -> App {
        let mut app = App::new(now(), String::new(), TimeZone::UTC);
        for (target, count) in [("a:1", 3), ("b:2", 2), ("c:3", 1)] {
            for second in 0..count {
                app.take(lost(target, second));
            }
        }
        app
    }

    fn press(app: &mut App, keys: &[Press]) -> Effect {
        keys.iter().map(|key| app.press(*key, now(), 2)).last().unwrap()
    }

    fn selected(app: &App) -> String {
        let rows = app.rows(now());
        rows[app.selected(&rows)].key.target.clone()
    }

    #[test]
    fn the_selection_stays_on_its_upstream_when_rows_move() {
        let mut app = app();
        assert_eq!(selected(&app), "a:1");
        press(&mut app, &[Press::Down]);
        assert_eq!(selected(&app), "b:2");
        for second in 0..5 {
            app.take(lost("c:3", second));
        }
        assert_eq!(selected(&app), "b:2");
        press(&mut app, &[Press::Last, Press::Down]);
        assert_eq!(selected(&app), "b:2", "it is the last now");
        press(&mut app, &[Press::First]);
        assert_eq!(selected(&app), "c:3");
    }

    #[test]
    fn a_pause_holds_the_screen_and_not_the_counting() {
        let mut app = app();
        press(&mut app, &[Press::Char(' ')]);
        app.take(lost("a:1", 20));
        assert_eq!(app.board().counts().lost, 6);
        assert_eq!(app.paused().unwrap().1, 1);
        assert!(!app.ages());
        press(&mut app, &[Press::Char(' ')]);
        assert_eq!(app.board().counts().lost, 7);
    }

    #[test]
    fn an_open_upstream_stands_still_while_it_is_read() {
        let mut app = app();
        press(&mut app, &[Press::Enter]);
        let counted = |app: &App| match &app.open {
            Open::Upstream { shown, .. } => shown.counts.lost,
            other => panic!("{other:?}"),
        };
        app.take(lost("a:1", 20));
        app.refresh();
        assert_eq!(counted(&app), 4);
        press(&mut app, &[Press::Down]);
        app.take(lost("a:1", 21));
        app.refresh();
        assert_eq!(counted(&app), 4);
        press(&mut app, &[Press::First]);
        app.refresh();
        assert_eq!(counted(&app), 5);
        assert_eq!(press(&mut app, &[Press::Char('q')]), Effect::Nothing, "q closes it");
        assert!(matches!(app.open, Open::Table));
    }

    #[test]
    fn what_is_typed_becomes_the_filter_on_enter() {
        let mut app = app();
        let keys = [Press::Char('/'), Press::Char('q'), Press::Char(' '), Press::Char('x'), Press::Backspace];
        press(&mut app, &keys);
        assert_eq!(press(&mut app, &[Press::Enter]), Effect::Search("q ".to_owned()));
        app.begin("q".to_owned(), vec!["q".to_owned()], now());
        assert!(app.board().is_empty());
        assert_eq!(
            press(&mut app, &[Press::Escape]),
            Effect::Search(String::new()),
            "Esc takes it away first"
        );
        app.begin(String::new(), Vec::new(), now());
        assert_eq!(press(&mut app, &[Press::Escape]), Effect::Quit);
    }

    #[test]
    fn control_c_quits_wherever_it_is_typed() {
        for keys in [&[Press::Char('/')][..], &[Press::Enter], &[Press::Char('?')], &[Press::Char(' ')]] {
            let mut app = app();
            press(&mut app, keys);
            assert_eq!(press(&mut app, &[Press::Interrupt]), Effect::Quit);
        }
    }

    #[test]
    fn the_order_goes_through_all_columns_and_back() {
        let mut app = app();
        press(&mut app, &[Press::Char('s')]);
        assert_eq!(app.order.by, Column::Rate);
        press(&mut app, &[Press::Char('<'), Press::Char('<'), Press::Char('r')]);
        assert_eq!(app.order, Order { by: Column::Upstream, reversed: true });
        assert_eq!(selected(&app), "c:3");
    }
}
