//! Reads CSV so that no row is lost: each is handed out, or refused with its line and the reason.
//!
//! Takes    text of any origin. Gives rows of UTF-8 cells with the line they begin at.
//! Weak at  nothing a writer of CSV does: quotes that are doubled, cells over several lines, CRLF, a byte-order mark.
//!          A quote that is never closed costs its own line only, for the lines after it are read again as rows.

use std::{
    collections::VecDeque,
    io::{self, BufRead},
};

use memchr::memchr;

/// Longest line that is looked at, in bytes; the longest genuine row of Open Images has some 1,500.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Most lines that one row may stand on.
const ROW_LINES_MAX: usize = 8;

/// One row: its cells, and the line it begins at, from 1.
#[derive(Debug, Default)]
pub struct Row {
    pub line: u64,
    text: String,
    ends: Vec<usize>,
}

impl Row {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The cell of this column, empty where the row has none.
    pub fn cell(&self, column: usize) -> &str {
        let Some(&end) = self.ends.get(column) else { return "" };
        let from = if column == 0 { 0 } else { self.ends[column - 1] };
        &self.text[from..end]
    }

    pub fn cells(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|column| self.cell(column))
    }
}

/// A row that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub line: u64,
    pub problem: String,
}

/// Rows of one text.
#[derive(Debug)]
pub struct Rows<R> {
    reader: R,
    /// Lines taken from the reader so far.
    lines: u64,
    /// Lines that were read ahead in search of a closing quote.
    ahead: VecDeque<(u64, Line)>,
    row: Row,
}

/// A line without its end; None where it is longer than anybody's row.
type Line = Option<Vec<u8>>;

impl<R: BufRead> Rows<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, lines: 0, ahead: VecDeque::new(), row: Row::default() }
    }

    /// The next row, which has `columns` cells where that is given; None at the end. Empty lines are no rows.
    pub fn next(&mut self, columns: Option<usize>) -> io::Result<Option<Result<&Row, Refused>>> {
        let (line, bytes) = loop {
            match self.line()? {
                None => return Ok(None),
                Some((line, None)) => {
                    let problem = format!("is longer than {LINE_BYTES_MAX} bytes, which is no row");
                    return Ok(Some(Err(Refused { line, problem })));
                }
                Some((_, Some(bytes))) if bytes.is_empty() => {}
                Some((line, Some(bytes))) => break (line, bytes),
            }
        };
        let refused = |problem: String| Ok(Some(Err(Refused { line, problem })));
        self.row.line = line;
        let whole = match split(&bytes, &mut self.row.ends) {
            Split::Whole { text, .. } => Some(text),
            Split::Open => self.joined(bytes, columns)?,
        };
        let Some(text) = whole else { return refused("has a quote that is never closed".into()) };
        match String::from_utf8(text) {
            Ok(text) => self.row.text = text,
            Err(_) => return refused("is not UTF-8 text".into()),
        }
        match columns.filter(|columns| *columns != self.row.len()) {
            Some(columns) => refused(format!("has {} cells instead of {columns}", self.row.len())),
            None => Ok(Some(Ok(&self.row))),
        }
    }

    /// A row that goes on over the next lines; if it does not end as a whole row, those lines are rows of their own.
    fn joined(&mut self, first: Vec<u8>, columns: Option<usize>) -> io::Result<Option<Vec<u8>>> {
        let (mut whole, mut taken) = (first, Vec::new());
        while taken.len() + 1 < ROW_LINES_MAX {
            let Some((line, bytes)) = self.line()? else { break };
            let Some(bytes) = bytes else {
                taken.push((line, None));
                break;
            };
            whole.push(b'\n');
            whole.extend_from_slice(&bytes);
            taken.push((line, Some(bytes)));
            if let Split::Whole { text, clean } = split(&whole, &mut self.row.ends) {
                // A quote that ends in the middle of a cell began one of a later row.
                if clean && columns.is_none_or(|columns| columns == self.row.ends.len()) {
                    return Ok(Some(text));
                }
                break;
            }
        }
        for line in taken.into_iter().rev() {
            self.ahead.push_front(line);
        }
        Ok(None)
    }

    fn line(&mut self) -> io::Result<Option<(u64, Line)>> {
        if let Some(line) = self.ahead.pop_front() {
            return Ok(Some(line));
        }
        let mut bytes = Vec::new();
        let (mut any, mut too_long) = (false, false);
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if buffer.is_empty() {
                break;
            }
            any = true;
            let end = memchr(b'\n', buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            too_long |= bytes.len() + part.len() > LINE_BYTES_MAX;
            if !too_long {
                bytes.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !any {
            return Ok(None);
        }
        self.lines += 1;
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        if self.lines == 1 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        Ok(Some((self.lines, (!too_long).then_some(bytes))))
    }
}

enum Split {
    /// The cells one after the other; where each ends stands beside it. Clean, if every closing quote ends its cell.
    Whole { text: Vec<u8>, clean: bool },
    /// The last cell is quoted and does not end.
    Open,
}

fn split(line: &[u8], ends: &mut Vec<usize>) -> Split {
    ends.clear();
    let mut text = Vec::with_capacity(line.len());
    let (mut at, mut clean) = (0, true);
    loop {
        let quoted = line.get(at) == Some(&b'"');
        if quoted {
            at += 1;
            loop {
                let Some(quote) = memchr(b'"', &line[at..]) else { return Split::Open };
                text.extend_from_slice(&line[at..at + quote]);
                at += quote + 1;
                match line.get(at) {
                    Some(b'"') => {
                        text.push(b'"');
                        at += 1;
                    }
                    _ => break,
                }
            }
        }
        let rest = memchr(b',', &line[at..]).unwrap_or(line.len() - at);
        clean &= !quoted || rest == 0;
        text.extend_from_slice(&line[at..at + rest]);
        ends.push(text.len());
        at += rest;
        if at >= line.len() {
            return Split::Whole { text, clean };
        }
        at += 1; // the comma
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller] // rows are cells joined by `|`; a refused one is its line and a part of the problem
    fn check(text: &[u8], columns: usize, want: &[Result<&str, (u64, &str)>]) {
        let mut rows = Rows::new(text);
        let mut found = Vec::new();
        while let Some(row) = rows.next(Some(columns)).expect("memory") {
            found.push(row.map(|row| row.cells().collect::<Vec<_>>().join("|")));
        }
        assert_eq!(found.len(), want.len(), "{found:?}");
        for (found, want) in found.iter().zip(want) {
            match (found, want) {
                (Ok(found), Ok(want)) => assert_eq!(found, want),
                (Err(found), Err((line, part))) => {
                    assert_eq!(found.line, *line, "{found:?}");
                    assert!(found.problem.contains(part), "{found:?}");
                }
                _ => panic!("{found:?} instead of {want:?}"),
            }
        }
    }

    #[test]
    fn quotes_commas_lines_and_marks_of_any_writer_are_read() {
        check(
            b"\xef\xbb\xbfa,b\r\n\"c, d\",\"say \"\"e\"\"\"\n\n\"f\ng\",\n",
            2,
            &[Ok("a|b"), Ok("c, d|say \"e\""), Ok("f\ng|")],
        );
        check(b"a,6\" nails", 2, &[Ok("a|6\" nails")]);
    }

    #[test]
    fn an_open_quote_costs_its_own_line_only() {
        check(b"a,\"b\nc,d\ne,f\n", 2, &[Err((1, "never closed")), Ok("c|d"), Ok("e|f")]);
        check(b"a,\"b\nc,\"d\"\ne,f", 2, &[Err((1, "never closed")), Ok("c|d"), Ok("e|f")]);
    }

    #[test]
    fn rows_of_another_width_or_encoding_are_named() {
        check(
            b"a,b\nc\nd,e,f\ng,\xff\nh,i",
            2,
            &[Ok("a|b"), Err((2, "1 cells instead of 2")), Err((3, "3 cells")), Err((4, "UTF-8")), Ok("h|i")],
        );
    }

    #[test]
    fn an_endless_line_is_refused_and_the_next_is_read() {
        let mut text = vec![b'x'; LINE_BYTES_MAX + 1];
        text.extend_from_slice(b"\na,b\n");
        check(&text, 2, &[Err((1, "longer")), Ok("a|b")]);
    }
}
