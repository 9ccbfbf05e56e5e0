//! CSV: UTF-8, a byte order mark dropped, `;` if the header has one and else `,`, quotes as in RFC 4180.

use std::io::{self, BufRead, Read};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::fields::{Builder, Field};
use super::{BOM, Fault, FileFault, ROW_BYTES, Row};

pub(super) struct Rows<R: BufRead> {
    reader: Reader<Lines<R>>,
    /// What each column is for, `None` if that is not known; and its name.
    columns: Vec<(Option<Field>, String)>,
    record: ByteRecord,
    over: bool,
}

impl<R: BufRead> Rows<R> {
    pub(super) fn new(reader: R) -> Result<(Self, Vec<Fault>), FileFault> {
        let mut lines = Lines::new(reader);
        lines.advance()?;
        let delimiter = if lines.record.contains(&b';') { b';' } else { b',' };
        lines.delimiter = delimiter;
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(ROW_BYTES)
            .from_reader(lines);
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record).map_err(fault)? {
            return Err(FileFault::Empty);
        }
        let mut columns: Vec<(Option<Field>, String)> = Vec::with_capacity(record.len());
        let mut warnings = Vec::new();
        for name in &record {
            let name = String::from_utf8_lossy(name).trim().to_owned();
            let field = Field::of_column(&name);
            // Aliases are the same column; unknown ones may repeat as they like.
            let repeated =
                |other: &(Option<Field>, String)| field.is_some() && other.0 == field && field != Some(Field::Session);
            if columns.iter().any(repeated) {
                return Err(FileFault::RepeatedColumn(name));
            }
            if field.is_none() {
                let reason = "this column is not known and not imported".to_owned();
                warnings.push(Fault { column: name.clone(), value: None, code: "unknown_column", reason });
            }
            columns.push((field, name));
        }
        if columns.iter().all(|(field, _)| field.is_none()) {
            return Err(FileFault::NoKnownColumn);
        }
        Ok((Self { reader, columns, record, over: false }, warnings))
    }

    pub(super) fn next(&mut self) -> Option<Result<Row, FileFault>> {
        if self.over {
            return None;
        }
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                self.over = true;
                return Some(Err(fault(error)));
            }
        }
        let line = self.reader.get_ref().start;
        let mut row = Builder::default();
        if self.record.len() != self.columns.len() {
            let reason = format!("{} cells under {} columns", self.record.len(), self.columns.len());
            row.refuse("", "cell_count", reason);
        }
        for ((field, column), cell) in self.columns.iter().zip(&self.record) {
            let Some(field) = field else { continue };
            match std::str::from_utf8(cell) {
                Ok(text) => row.set(*field, column, text.trim()),
                Err(_) => row.refuse(column, "not_utf8", "the text is not UTF-8"),
            }
        }
        Some(Ok(row.finish(line)))
    }
}

/// Hands the parser one record a read, so that the line where it starts is known and its length bounded; blank lines are
/// passed over.
struct Lines<R> {
    reader: R,
    delimiter: u8,
    record: Vec<u8>,
    /// What of the record was handed out.
    given: usize,
    /// The line where the record starts, and the one after it.
    start: u64,
    next: u64,
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader, delimiter: b',', record: Vec::new(), given: 0, start: 1, next: 1 }
    }

    /// Cuts the next record; empty at the end of the file.
    fn advance(&mut self) -> io::Result<()> {
        self.record.clear();
        self.given = 0;
        let mut quotes = Quotes::FieldStart;
        self.start = self.next;
        loop {
            let from = self.record.len();
            let room = (ROW_BYTES + 1).saturating_sub(from) as u64;
            let read = self.reader.by_ref().take(room).read_until(b'\n', &mut self.record)?;
            if self.record.len() > ROW_BYTES {
                return Err(io::Error::other(TooLong(self.start)));
            }
            if read == 0 {
                return Ok(());
            }
            self.next += 1;
            if from == 0 && self.start == 1 && self.record.starts_with(BOM) {
                self.record.drain(..BOM.len());
            }
            let blank = from == 0 && self.record.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
            if blank {
                self.record.clear();
                self.start = self.next;
                continue;
            }
            let delimiter = self.delimiter;
            quotes = self.record[from.min(self.record.len())..]
                .iter()
                .fold(quotes, |quotes, byte| quotes.after(*byte, delimiter));
            if quotes != Quotes::Inside {
                return Ok(());
            }
        }
    }
}

impl<R: BufRead> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.record.len() && (self.given > 0 || self.record.is_empty()) {
            self.advance()?;
        }
        let rest = &self.record[self.given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok(count)
    }
}

/// Where a record is with its quotes (RFC 4180 §2.5 to 2.7): a line break in quotes does not end it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Quotes {
    FieldStart,
    Plain,
    Inside,
    /// After a quote inside: the end, or half of an escaped one.
    Perhaps,
}

impl Quotes {
    fn after(self, byte: u8, delimiter: u8) -> Self {
        match (self, byte) {
            (Self::FieldStart | Self::Perhaps, b'"') => Self::Inside,
            (Self::Inside, b'"') => Self::Perhaps,
            (Self::Inside, _) => Self::Inside,
            (_, byte) if byte == delimiter || byte == b'\n' => Self::FieldStart,
            _ => Self::Plain,
        }
    }
}

#[derive(Debug)]
struct TooLong(u64);

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row {} is too long", self.0)
    }
}

impl std::error::Error for TooLong {}

fn fault(error: csv::Error) -> FileFault {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error.into(),
        // Flexible byte records know no other fault.
        other => FileFault::Io(io::Error::other(format!("{other:?}"))),
    }
}

impl From<io::Error> for FileFault {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<TooLong>()) {
            Some(TooLong(row)) => Self::RowTooLong(*row),
            None => Self::Io(error),
        }
    }
}
