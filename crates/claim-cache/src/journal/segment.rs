//! Reading a file record by record, in bounded memory.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::JournalError;
use super::record::{FileKind, HEADER_BYTES, HeaderFault, Record, check_header};

const CHUNK: usize = 1024 * 1024;

/// What came out of a file.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record.
    Record(Record),
    /// The end, at a record's boundary.
    End,
    /// Bytes that are no record, beginning at this offset. Nothing more is read.
    Damage { offset: u64 },
}

/// See the module's head.
pub(crate) struct Reader {
    file: File,
    chunk: Vec<u8>,
    /// The unread part of `chunk`.
    at: usize,
    filled: usize,
    /// Offset in the file of the next record.
    offset: u64,
    exhausted: bool,
}

/// What a header said.
pub(crate) enum Opened {
    /// Records may follow.
    Good(Reader),
    /// It is no header of this file.
    NoHeader,
}

impl Reader {
    /// Opens a file and checks its header.
    pub(crate) fn open(path: &Path, kind: FileKind, number: u64) -> Result<Opened, JournalError> {
        let mut reader = Self::open_anywhere(path)?;
        match check_header(&reader.chunk[..reader.filled], kind, number) {
            Ok(()) => {
                reader.at = HEADER_BYTES;
                reader.offset = HEADER_BYTES as u64;
                Ok(Opened::Good(reader))
            }
            Err(HeaderFault::Newer(version)) => Err(JournalError::Newer { path: path.to_owned(), version }),
            Err(HeaderFault::Bad) => Ok(Opened::NoHeader),
        }
    }

    /// Opens a file at its first byte, whatever that is.
    pub(crate) fn open_anywhere(path: &Path) -> Result<Self, JournalError> {
        let failed = |source| JournalError::io(path, "read", source);
        let file = File::open(path).map_err(failed)?;
        let mut reader = Self { file, chunk: vec![0; CHUNK], at: 0, filled: 0, offset: 0, exhausted: false };
        reader.fill().map_err(failed)?;
        Ok(reader)
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> io::Result<Step> {
        loop {
            let unread = &self.chunk[self.at..self.filled];
            match Record::read(unread) {
                Ok((record, length)) => {
                    self.at += length;
                    self.offset += length as u64;
                    return Ok(Step::Record(record));
                }
                Err(super::record::Fault::Short) if !self.exhausted => self.fill()?,
                Err(_) if unread.is_empty() => return Ok(Step::End),
                Err(_) => return Ok(Step::Damage { offset: self.offset }),
            }
        }
    }

    /// Skips one byte, to look for a record behind damage.
    pub(crate) fn skip_byte(&mut self) {
        self.at += 1;
        self.offset += 1;
    }

    /// Offset of what is read next.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    fn fill(&mut self) -> io::Result<()> {
        self.chunk.copy_within(self.at..self.filled, 0);
        self.filled -= self.at;
        self.at = 0;
        while self.filled < CHUNK {
            match self.file.read(&mut self.chunk[self.filled..]) {
                Ok(0) => {
                    self.exhausted = true;
                    break;
                }
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
