//! A table of results, as Markdown and as JSON.

use serde::{Serialize, Serializer};

/// A value of a table.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Text(String),
    Number {
        value: f64,
        /// Digits after the point, where a person reads it.
        digits: usize,
    },
}

/// A number in full, so that whoever reads JSON may round as he likes.
impl Serialize for Cell {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Number { value, .. } => serializer.serialize_f64(*value),
        }
    }
}

impl Cell {
    /// A number that is shown with so many digits after the point.
    #[must_use]
    pub fn number(value: f64, digits: usize) -> Self {
        Self::Number { value, digits }
    }

    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.replace('|', "\\|"),
            Self::Number { value, digits } => grouped(&format!("{value:.digits$}")),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// Results of one kind, with what a reader must know of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
    pub notes: Vec<String>,
}

impl Table {
    /// A table without rows.
    #[must_use]
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { title: title.into(), columns, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row, one cell a column.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// Adds a sentence that is shown below the table.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// A heading, the table, and its notes.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = format!("### {}\n\n{}", self.title, line(&self.columns));
        text.push_str(&format!("|{}\n", "---|".repeat(self.columns.len())));
        for row in &self.rows {
            text.push_str(&line(&row.iter().map(Cell::text).collect::<Vec<_>>()));
        }
        for note in &self.notes {
            text.push_str(&format!("\n{note}\n"));
        }
        text
    }
}

/// A comma after every third digit before the point.
pub(super) fn grouped(number: &str) -> String {
    let (sign, number) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let (whole, fraction) =
        number.split_once('.').map_or((number, String::new()), |(whole, rest)| (whole, format!(".{rest}")));
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}{fraction}")
}

#[cfg(test)]
mod tests {
    use super::{Cell, Table, grouped};

    #[test]
    fn a_table_reads_well_and_keeps_its_numbers_in_json() {
        let mut table = Table::new("what", &["a", "b"]);
        table.row(["x|y".into(), Cell::number(1234.56, 1)]);
        table.note("said of it");
        let text = "### what\n\n| a | b |\n|---|---|\n| x\\|y | 1,234.6 |\n\nsaid of it\n";
        assert_eq!(table.markdown(), text);
        let json = serde_json::to_value(&table).unwrap();
        assert_eq!(json["rows"][0], serde_json::json!(["x|y", 1234.56]));
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, expected) in
            [("1", "1"), ("-1000", "-1,000"), ("123456.75", "123,456.75"), ("999", "999")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
