//! The screen, the keys and the stream, joined.

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::super::selection::selection;
use super::feed::{Feed, Told};
use crate::cli::TypedFilter;
use crate::output::selection::{Filter, Selection};
use crate::output::socket::Client;
use crate::output::text::printable;
use crate::top::app::{App, Effect, Link};
use crate::top::input::{Press, presses};
use crate::top::screen::{Look, draw, page};
use crate::top::terminal::{FullScreen, abandon};

/// The shortest time between two frames that nobody asked for by a key.
const FRAME: Duration = Duration::from_millis(250);
/// Ages on the screen change that often.
const AGE: Duration = Duration::from_secs(1);
/// How long the terminal may take to get its screen back when others end this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Reads of the stream, and keys, that are taken at once.
const BATCH: usize = 64;

/// Shows the screen until it is told to stop.
pub(super) async fn run(socket: &Path, selection: Selection, since: Timestamp) -> anyhow::Result<()> {
    // Said before the screen is taken, where it can be read afterwards.
    let client = Client::connect(socket).await?;
    let mut told_to_end = told_to_end().context("cannot wait for signals")?;
    // Not from the keyboard, which sends a key instead.
    let mut stop = signal(SignalKind::from_raw(libc::SIGTSTP)).context("cannot wait for signals")?;
    let feed = Feed::start(Some(client), socket, selection.clone());
    let app = App::new(since, words(&selection.filter), TimeZone::system());
    let look = Look { colours: std::env::var_os("NO_COLOR").is_none() };
    let screen = FullScreen::enter().context("cannot show the screen on this terminal (try --once)")?;
    let mut keys = presses().context("cannot read the keyboard")?;
    let mut live = Live { app, feed, screen, look, socket, selection, drawn: None };

    let mut frame = interval(FRAME);
    frame.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut lines, mut pressed) = (Vec::new(), Vec::new());
    let mut changed = true;
    loop {
        tokio::select! {
            n = live.feed.told.recv_many(&mut lines, BATCH) => {
                anyhow::ensure!(n > 0, "the stream stopped unexpectedly");
                lines.drain(..).flatten().for_each(|told| live.hear(told));
                changed = true;
            }
            n = keys.recv_many(&mut pressed, BATCH) => {
                anyhow::ensure!(n > 0, "the keyboard stopped unexpectedly");
                for press in pressed.drain(..) {
                    if live.press(press.context("cannot read the keyboard")?)?.is_none() {
                        return Ok(());
                    }
                }
                live.draw()?;
                changed = false;
            }
            _ = frame.tick() => {
                if changed || live.is_aged() {
                    live.draw()?;
                    changed = false;
                }
            }
            _ = stop.recv() => live.suspend()?,
            _ = &mut told_to_end => return Ok(()),
        }
    }
}

struct Live<'a> {
    app: App,
    feed: Feed,
    screen: FullScreen,
    look: Look,
    socket: &'a Path,
    /// As the command line says.
    selection: Selection,
    drawn: Option<Instant>,
}

impl Live<'_> {
    fn hear(&mut self, told: Told) {
        match told {
            Told::Ready(ready) => {
                self.app.link = Link::Live;
                self.app.host = ready.host;
            }
            Told::Verdict(view) => self.app.take(*view),
            Told::Omitted(omitted) => self.app.miss(&omitted),
            Told::Learned(upstreams) => self.app.learn(upstreams),
            Told::Gone(why) => self.app.link = Link::Gone(why),
        }
    }

    /// None if that was enough.
    fn press(&mut self, press: Press) -> anyhow::Result<Option<()>> {
        let height = self.screen.terminal.size().map_or(24, |size| size.height);
        match self.app.press(press, Timestamp::now(), page(height)) {
            Effect::Nothing => {}
            Effect::Quit => return Ok(None),
            Effect::Suspend => self.suspend()?,
            Effect::Repaint => self.screen.repaint().context("cannot clear the screen")?,
            Effect::Search(text) => self.search(text),
        }
        Ok(Some(()))
    }

    /// Asks the agent anew, with a filter that narrows the one of the command line.
    fn search(&mut self, text: String) {
        let read = TypedFilter::read(&text).and_then(|typed| {
            selection(&typed.filter).map(|(s, _)| (s, typed.words)).map_err(|e| e.to_string())
        });
        match read {
            Ok((typed, words)) => {
                let narrowed = narrowed(&self.selection, typed);
                let since = narrowed.span.since.unwrap_or(self.app.since);
                self.feed = Feed::start(None, self.socket, narrowed);
                self.app.begin(text.trim().to_owned(), words, since);
            }
            Err(error) => self.app.refuse(text, error),
        }
    }

    fn suspend(&mut self) -> anyhow::Result<()> {
        self.screen.suspend().context("cannot take the terminal back")?;
        self.draw()
    }

    fn is_aged(&self) -> bool {
        self.app.ages() && self.drawn.is_none_or(|drawn| drawn.elapsed() >= AGE)
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        self.drawn = Some(Instant::now());
        let (app, look) = (&mut self.app, self.look);
        let drawn = self.screen.terminal.draw(|frame| {
            if let Some(cursor) = draw(app, Timestamp::now(), look, frame.buffer_mut()) {
                frame.set_cursor_position(cursor);
            }
        });
        drawn.context("cannot draw on the terminal")?;
        Ok(())
    }
}

/// What has to hold of both. Where both have values of a kind, those that were typed last count.
fn narrowed(given: &Selection, typed: Selection) -> Selection {
    let mut both = given.clone();
    let (filter, new) = (&mut both.filter, typed.filter);
    replace(&mut filter.upstream, new.upstream);
    replace(&mut filter.by, new.by);
    replace(&mut filter.cause, new.cause);
    replace(&mut filter.impact, new.impact);
    replace(&mut filter.netns, new.netns);
    replace(&mut filter.process, new.process);
    replace(&mut filter.container, new.container);
    replace(&mut filter.pod, new.pod);
    replace(&mut filter.gateway, new.gateway);
    filter.all |= new.all;
    both.span.since = typed.span.since.or(both.span.since);
    both
}

fn replace<T>(old: &mut Vec<T>, new: Vec<T>) {
    if !new.is_empty() {
        *old = new;
    }
}

/// The filter as it could be typed.
fn words(filter: &Filter) -> String {
    fn option<T: Display>(name: &str, values: &[T]) -> Option<String> {
        let values: Vec<_> = values.iter().map(ToString::to_string).collect();
        (!values.is_empty()).then(|| format!("{name}={}", values.join(",")))
    }
    let words = [
        option("upstream", &filter.upstream),
        option("by", &filter.by),
        option("cause", &filter.cause),
        option("impact", &filter.impact),
        option("netns", &filter.netns),
        option("process", &filter.process),
        option("container", &filter.container),
        option("pod", &filter.pod),
    ];
    printable(&words.into_iter().flatten().collect::<Vec<_>>().join(" ")).into_owned()
}

/// Completes when this process is told to end. It ends then, a little later, even if the terminal is stalled and takes no
/// frame: whoever writes one does not hear of signals.
fn told_to_end() -> std::io::Result<oneshot::Receiver<()>> {
    let (tell, told) = oneshot::channel();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(signals.end());
        let _ = tell.send(());
        std::thread::sleep(PATIENCE);
        abandon();
        std::process::exit(0);
    })?;
    Ok(told)
}

/// What ends this command when others send it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Completes when this process is told to end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_narrows_the_command_line() {
        let read = |text: &str| selection(&TypedFilter::read(text).unwrap().filter).unwrap().0;
        let given = read("by=upstream cause=oom_killed since=2026-11-20T12:00:00Z");
        let both = narrowed(&given, read("cause=no_listener process=php-fpm"));
        assert_eq!(words(&both.filter), "by=upstream cause=no_listener process=php-fpm");
        assert_eq!(both.span.since, given.span.since);
        let later = narrowed(&given, read("since=2026-11-20T12:03:00Z"));
        assert_eq!(later.span.since.unwrap().to_string(), "2026-11-20T12:03:00Z");
    }
}
