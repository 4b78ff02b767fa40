//! Counts as a row of bars.

/// Bars from least to most; nothing at all is a space.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar for each count, by the largest of them. Whatever is more than nothing has a bar.
#[must_use]
pub fn sparkline<N: Copy + Into<u64>>(counts: &[N]) -> String {
    let most = counts.iter().map(|n| (*n).into()).max().unwrap_or(0).max(1);
    let bar = |n: u64| match n {
        0 => ' ',
        n => BARS[(u128::from(n) * 8).div_ceil(u128::from(most)).clamp(1, 8) as usize - 1],
    };
    counts.iter().map(|n| bar((*n).into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_shows_the_least_and_the_most() {
        assert_eq!(sparkline(&[0_u32, 1, 50, 100]), " ▁▄█");
        assert_eq!(sparkline(&[0_u32, 0]), "  ");
        assert_eq!(sparkline(&[u32::MAX, 1]), "█▁");
        assert_eq!(sparkline(&[u64::MAX, 1]), "█▁");
    }
}
