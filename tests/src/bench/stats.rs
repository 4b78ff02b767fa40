//! Medians and spreads.

use super::table::Cell;

/// What several measurements of one thing say: the median, the middle half and the extremes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub least: f64,
    pub low: f64,
    pub median: f64,
    pub high: f64,
    pub most: f64,
}

impl Spread {
    /// Of these values; none gives NaN.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let at = |part: f64| quantile(&values, part);
        Self { least: at(0.0), low: at(0.25), median: at(0.5), high: at(0.75), most: at(1.0) }
    }

    /// The median as a cell.
    #[must_use]
    pub fn median_cell(&self, digits: usize) -> Cell {
        Cell::number(self.median, digits)
    }

    /// The middle half, then all: `0.95–0.97 (0.90–1.02)`.
    #[must_use]
    pub fn spread_cell(&self, digits: usize) -> Cell {
        let Self { least, low, high, most, .. } = self;
        Cell::from(format!("{low:.digits$}–{high:.digits$} ({least:.digits$}–{most:.digits$})"))
    }
}

/// The value at that part of the sorted ones, between the two nearest, as most programs do it; NaN where there are none.
#[must_use]
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = part * last as f64;
    let below = (place.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let share = place - below as f64;
    sorted[below] * (1.0 - share) + sorted[above] * share
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]);
        let expected = Spread { least: 1.0, low: 1.75, median: 2.5, high: 3.25, most: 4.0 };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of([7.0]).spread_cell(1), "7.0–7.0 (7.0–7.0)".into());
        assert!(Spread::of([]).median.is_nan());
    }
}
