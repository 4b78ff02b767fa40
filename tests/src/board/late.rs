//! Timers that were late: on a busy machine a server's timeout fires long after its time, and what was to be played, the
//! same age over and over, was not. The client's own clock says so, and the case is played again.

use std::time::Duration;

use anyhow::Result;

/// How far apart the times of alike requests may be: half of what rstrace takes for alike, of the shortest.
const PART: u32 = 40;
const LEAST: Duration = Duration::from_millis(15);

/// What should have taken the same time did not.
#[derive(Debug, thiserror::Error)]
#[error("timers were late: requests that end by one timeout took {0:?}")]
pub struct Late(Vec<Duration>);

/// Whether at least so many of these times are alike.
///
/// # Errors
/// [`Late`] if they are not.
pub fn ensure_alike(times: &[Duration], wanted: usize) -> Result<()> {
    let mut sorted = times.to_vec();
    sorted.sort();
    let alike = |times: &&[Duration]| times[times.len() - 1] - times[0] <= LEAST.max(times[0] / PART);
    if wanted == 0 || sorted.windows(wanted).any(|times| alike(&times)) {
        return Ok(());
    }
    Err(Late(times.to_vec()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_of_four_may_be_alike() {
        let ms = |times: &[u64]| times.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert!(ensure_alike(&ms(&[2000, 2030, 2045]), 3).is_ok());
        assert!(ensure_alike(&ms(&[1200, 2000, 2030, 2045]), 3).is_ok());
        for late in [&[500, 524, 561][..], &[1500, 1508, 1916], &[2000, 2010]] {
            let error = ensure_alike(&ms(late), 3).unwrap_err();
            assert!(error.is::<Late>(), "{error}");
        }
    }
}
