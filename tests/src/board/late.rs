//! Timers that were late: on a busy machine a timeout fires long after its time, and what was to be played, requests that
//! end at a known age, was not. The client's own clock says so, and the case is played again.

use std::time::Duration;

use anyhow::Result;

/// How late a timer may be: half of what rstrace takes for alike, within limits. An age in words, to a tenth of a second,
/// is the timer's then.
const PART: u32 = 40;
const LEAST: Duration = Duration::from_millis(15);
const MOST: Duration = Duration::from_millis(40);

/// What should have happened at its time did not.
#[derive(Debug, thiserror::Error)]
#[error("timers were late: {0}")]
pub struct Late(pub String);

/// Whether requests that took so long ended when a timer of `due` was to end them.
///
/// # Errors
/// [`Late`] if one did not.
pub fn ensure_on_time(took: &[Duration], due: Duration) -> Result<()> {
    let latest = due + (due / PART).clamp(LEAST, MOST);
    if took.iter().all(|took| *took <= latest) {
        return Ok(());
    }
    Err(Late(format!("requests that end after {due:?} took {took:?}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_request_may_be_late() {
        let ms = |times: &[u64]| times.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        for (due, took) in [(2000, &[2000, 2030, 2039][..]), (500, &[499, 514]), (1000, &[1024])] {
            assert!(ensure_on_time(&ms(took), Duration::from_millis(due)).is_ok(), "{took:?}");
        }
        for (due, took) in
            [(500, &[501, 524, 561][..]), (1500, &[1500, 1539]), (3000, &[3068]), (1000, &[1211])]
        {
            let error = ensure_on_time(&ms(took), Duration::from_millis(due)).unwrap_err();
            assert!(error.is::<Late>(), "{error}");
        }
    }
}
