//! What is typed on the terminal.

use std::io;

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, read};
use tokio::sync::mpsc;

/// Keys that may wait; nobody types faster than they are taken.
const QUEUE: usize = 256;

/// A key, or what the terminal says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Press {
    Char(char),
    Enter,
    Escape,
    Backspace,
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    /// Ctrl-U.
    Clear,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L, or another size.
    Redraw,
}

impl Press {
    fn of(event: &Event) -> Option<Self> {
        let Event::Key(key) = event else {
            return matches!(event, Event::Resize(..)).then_some(Self::Redraw);
        };
        let KeyEvent { code, modifiers, kind, .. } = *key;
        if kind == KeyEventKind::Release {
            return None;
        }
        if modifiers.contains(KeyModifiers::CONTROL) {
            return match code {
                KeyCode::Char('c') => Some(Self::Interrupt),
                KeyCode::Char('z') => Some(Self::Suspend),
                KeyCode::Char('l') => Some(Self::Redraw),
                KeyCode::Char('u') => Some(Self::Clear),
                KeyCode::Char('h') => Some(Self::Backspace),
                _ => None,
            };
        }
        Some(match code {
            KeyCode::Char(c) => Self::Char(c),
            KeyCode::Enter => Self::Enter,
            KeyCode::Esc => Self::Escape,
            KeyCode::Backspace => Self::Backspace,
            KeyCode::Up => Self::Up,
            KeyCode::Down => Self::Down,
            KeyCode::PageUp => Self::PageUp,
            KeyCode::PageDown => Self::PageDown,
            KeyCode::Home => Self::First,
            KeyCode::End => Self::Last,
            _ => return None,
        })
    }
}

/// Reads keys on a thread of its own, for as long as the process lives.
///
/// # Errors
/// If the thread cannot be started.
pub fn presses() -> io::Result<mpsc::Receiver<io::Result<Press>>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        loop {
            let press = match read() {
                Ok(event) => match Press::of(&event) {
                    Some(press) => Ok(press),
                    None => continue,
                },
                Err(error) => Err(error),
            };
            let failed = press.is_err();
            if sender.blocking_send(press).is_err() || failed {
                return;
            }
        }
    })?;
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_keys_are_no_letters() {
        let press = |code, modifiers| Press::of(&Event::Key(KeyEvent::new(code, modifiers)));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Press::Interrupt));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::NONE), Some(Press::Char('c')));
        assert_eq!(press(KeyCode::Char('x'), KeyModifiers::CONTROL), None);
        assert_eq!(Press::of(&Event::Resize(80, 24)), Some(Press::Redraw));
        assert_eq!(Press::of(&Event::FocusGained), None);
    }
}
