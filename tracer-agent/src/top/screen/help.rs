//! What the keys do and the columns mean.

use ratatui::text::Line;

use super::Look;

/// 40 columns at most, so that it can be read anywhere.
const TEXT: &[&str] = &[
    "KEYS",
    " up, down, j, k     the row",
    " PgUp, PgDn, g, G   page, first, last",
    " Enter              its last verdicts",
    " s, S               sort by the next or",
    "                    previous column",
    " r                  the other way round",
    " /                  filter",
    " space              pause; it counts on",
    " q, Esc, ctrl-C     back, end",
    "",
    "FILTER, words with spaces between",
    " 10.0.3.7 php       rows with this text",
    " by=upstream        as the command line",
    " cause=oom_killed   has it with --by,",
    " upstream=10.0.0.0/8",
    " impact= process= container= pod= netns=",
    " since=5m           count from then on",
    "",
    "COLUMNS",
    " LOST   requests lost; 3? may have been",
    " RATE   of the last 10 s, or 1 min",
    " LAST 15MIN  its own highest bar is full",
    " BY     who ended the last one",
    " CAUSE  of the last one; +2: others too",
    " AGO    when the last one was",
];

pub(super) fn lines() -> Vec<Line<'static>> {
    TEXT.iter()
        .map(|line| {
            let is_title = !line.starts_with(' ');
            if is_title { Line::styled(*line, Look::title()) } else { Line::raw(*line) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_can_be_read_on_a_narrow_screen() {
        assert!(super::TEXT.iter().all(|line| line.chars().count() <= 40));
    }
}
