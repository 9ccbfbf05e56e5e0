//! CSV: UTF-8, a byte order mark dropped, `;` if the header has one and else `,`, quotes as in RFC 4180.

use std::io::{self, BufRead, Read};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::fields::{Builder, Field};
use super::{BOM, Fault, FileFault, ROW_BYTES, Row};
use crate::export::unguarded;

/// Unknown columns that are named; what is beyond is counted.
const UNKNOWN_COLUMNS: usize = 50;
/// Characters of a column's name that are shown.
const COLUMN_SHOWN: usize = 255;

/// Devices, by [`Field`].
pub(super) struct Rows<R: BufRead> {
    table: Table<R>,
    /// What each column is for, `None` if that is not known.
    fields: Vec<Option<Field>>,
}

impl<R: BufRead> Rows<R> {
    pub(super) fn new(reader: R) -> Result<(Self, Vec<Fault>), FileFault> {
        let table = Table::new(reader)?;
        let (mut fields, mut warnings) = table.columns(Field::of_column, |field| *field != Field::Session)?;
        // Said once of the file: there may be many such columns, and rows.
        if let Some(at) = fields.iter().position(|field| *field == Some(Field::Session)) {
            let column = table.header[at].chars().take(COLUMN_SHOWN).collect();
            let reason = super::fields::SESSION_IGNORED.to_owned();
            warnings.push(Fault { column, value: None, code: "session_ignored", reason });
        }
        fields.iter_mut().filter(|field| **field == Some(Field::Session)).for_each(|field| *field = None);
        Ok((Self { table, fields }, warnings))
    }

    pub(super) fn next(&mut self) -> Option<Result<Row, FileFault>> {
        let line = match self.table.advance()? {
            Ok(line) => line,
            Err(fault) => return Some(Err(fault)),
        };
        let mut row = Builder::default();
        if let Some(reason) = self.table.miscounted() {
            row.refuse("", "cell_count", reason);
        }
        for (field, (column, cell)) in self.fields.iter().zip(self.table.cells()) {
            let Some(field) = field else { continue };
            match cell {
                Ok(text) => row.set(*field, column, unguarded(text)),
                Err(NotUtf8) => row.refuse(column, "not_utf8", "the text is not UTF-8"),
            }
        }
        Some(Ok(row.finish(line)))
    }
}

/// A file's header and, one after the other, its records.
pub(super) struct Table<R: BufRead> {
    reader: Reader<Lines<R>>,
    delimiter: u8,
    header: Vec<String>,
    record: ByteRecord,
    over: bool,
}

/// A cell that is no text.
pub(super) struct NotUtf8;

impl<R: BufRead> Table<R> {
    pub(super) fn new(reader: R) -> Result<Self, FileFault> {
        let mut lines = Lines::new(reader);
        lines.advance()?;
        let delimiter = if lines.record.contains(&b';') { b';' } else { b',' };
        lines.delimiter = delimiter;
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            // As `Lines` cuts them: a lone carriage return ends nothing, and one before the line's end is trimmed.
            .terminator(csv::Terminator::Any(b'\n'))
            .buffer_capacity(ROW_BYTES)
            .from_reader(lines);
        let mut record = ByteRecord::new();
        if !reader.read_byte_record(&mut record).map_err(fault)? {
            return Err(FileFault::Empty);
        }
        let header = record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect();
        Ok(Self { reader, delimiter, header, record, over: false })
    }

    /// What each column is for, and a warning for each that is not known. Of those that are `single` two are one too many;
    /// aliases are the same column.
    pub(super) fn columns<F: PartialEq>(
        &self,
        of_name: impl Fn(&str) -> Option<F>,
        single: impl Fn(&F) -> bool,
    ) -> Result<(Vec<Option<F>>, Vec<Fault>), FileFault> {
        let mut columns: Vec<Option<F>> = Vec::with_capacity(self.header.len());
        let (mut warnings, mut unknown) = (Vec::new(), 0);
        for name in &self.header {
            let column = of_name(name);
            if column
                .as_ref()
                .is_some_and(|column| single(column) && columns.iter().flatten().any(|other| other == column))
            {
                return Err(FileFault::RepeatedColumn(name.clone()));
            }
            if column.is_none() {
                unknown += 1;
                if unknown <= UNKNOWN_COLUMNS {
                    let reason = "this column is not known and not imported".to_owned();
                    let column = name.chars().take(COLUMN_SHOWN).collect();
                    warnings.push(Fault { column, value: None, code: "unknown_column", reason });
                }
            }
            columns.push(column);
        }
        if columns.iter().all(Option::is_none) {
            return Err(FileFault::NoKnownColumn);
        }
        if unknown > UNKNOWN_COLUMNS {
            let reason = format!("{} more columns are not known and not imported", unknown - UNKNOWN_COLUMNS);
            warnings.push(Fault { column: String::new(), value: None, code: "unknown_column", reason });
        }
        Ok((columns, warnings))
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// The names of the columns.
    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    /// The record's cells as they are.
    pub(super) fn record(&self) -> &ByteRecord {
        &self.record
    }

    /// Goes to the next record; the line where it starts.
    pub(super) fn advance(&mut self) -> Option<Result<u64, FileFault>> {
        if self.over {
            return None;
        }
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => Some(Ok(self.reader.get_ref().start)),
            Ok(false) => None,
            Err(error) => {
                self.over = true;
                Some(Err(fault(error)))
            }
        }
    }

    /// What is to be said of a record with more or fewer cells than the header.
    pub(super) fn miscounted(&self) -> Option<String> {
        let (cells, columns) = (self.record.len(), self.header.len());
        (cells != columns).then(|| format!("{cells} cells under {columns} columns"))
    }

    /// The record's cells under their columns' names.
    pub(super) fn cells(&self) -> impl Iterator<Item = (&str, Result<&str, NotUtf8>)> {
        let cells = self.record.iter().map(|cell| std::str::from_utf8(cell).map(str::trim).map_err(|_| NotUtf8));
        self.header.iter().map(String::as_str).zip(cells)
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
