//! All that is printed: results on standard output (lines, tables, JSON), words for people on standard error.
//!
//! Colours only where a person looks. A closed pipe is an error that `problem::report` takes for a good end.

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    sync::{Mutex, PoisonError},
};

use serde::Serialize;
use unicode_width::UnicodeWidthStr;

/// Standard output, buffered where nobody waits for it.
#[derive(Debug)]
pub struct Out {
    pub json: bool,
    terminal: bool,
    colour: bool,
    writer: Mutex<BufWriter<io::Stdout>>,
}

impl Out {
    pub fn stdout(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let colour = terminal && std::env::var_os("NO_COLOR").is_none();
        Self { json, terminal, colour, writer: Mutex::new(BufWriter::new(io::stdout())) }
    }

    pub fn line(&self, text: impl AsRef<str>) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(writer, "{}", text.as_ref())?;
        if self.terminal { writer.flush() } else { Ok(()) }
    }

    /// One value on one line.
    pub fn json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        Ok(self.line(serde_json::to_string(value)?)?)
    }

    pub fn table(&self, table: &Table) -> io::Result<()> {
        table.render().into_iter().enumerate().try_for_each(|(n, line)| match n {
            0 => self.line(self.bold(&line)),
            _ => self.line(line),
        })
    }

    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    pub fn dim(&self, text: &str) -> String {
        self.paint("2", text)
    }

    pub fn flush(&self) -> io::Result<()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A line for people, on standard error; when nobody listens there, that is no reason to stop.
pub fn say(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr(), "{}", text.as_ref());
}

/// Rows under headings, columns aligned by what is widest; numbers to the right.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    pub fn is_empty(&self) -> bool {
        self.rows.len() < 2
    }

    fn render(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let mut lines = vec![String::new(); self.rows.len()];
        for column in 0..columns {
            let cells: Vec<String> = self.rows.iter().map(|row| cell(row, column)).collect();
            let width = cells.iter().map(|c| c.width()).max().unwrap_or(0);
            let right = cells.len() > 1 && cells[1..].iter().all(|c| is_number(c));
            for (line, cell) in lines.iter_mut().zip(cells) {
                let gap = " ".repeat(width - cell.width());
                let (before, after) = if right { (gap, String::new()) } else { (String::new(), gap) };
                let space = if column == 0 { "" } else { "  " };
                line.push_str(&format!("{space}{before}{cell}{after}"));
            }
        }
        lines.iter().map(|line| line.trim_end().to_owned()).collect()
    }
}

fn is_number(cell: &str) -> bool {
    cell.is_empty() || cell == "-" || cell.trim_end_matches('%').parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_numbers_to_the_right() {
        let mut table = Table::new(["label", "photos"]);
        table.row(["cat".into(), "7".into()]);
        table.row(["größer".into(), "1200".into()]);
        assert_eq!(table.render(), ["label   photos", "cat          7", "größer    1200"]);
    }
}
