//! Reading a file record by record, in bounded memory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::JournalError;
use super::record::{Before, FileKind, HEADER_BYTES, HeaderFault, Record, check_header};

const CHUNK: usize = 1024 * 1024;

/// What came out of a file.
#[derive(Debug)]
pub(crate) enum Step {
    /// A record.
    Record(Record),
    /// The end, at a record's boundary; only zeros may follow.
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
    before: Before,
    /// A byte that is known not to be zero.
    not_zero: Option<u64>,
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
            Ok(before) => {
                reader.before = before;
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
        let mut reader = Self {
            file,
            chunk: vec![0; CHUNK],
            at: 0,
            filled: 0,
            offset: 0,
            exhausted: false,
            before: Before::Synced,
            not_zero: None,
        };
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
                Err(_) if unread.is_empty() || self.only_zeros_follow()? => return Ok(Step::End),
                Err(_) => return Ok(Step::Damage { offset: self.offset }),
            }
        }
    }

    /// What the header says of the segment before.
    pub(crate) fn before(&self) -> Before {
        self.before
    }

    /// Whether what follows is room that was not used.
    fn only_zeros_follow(&mut self) -> io::Result<bool> {
        if self.not_zero.is_some_and(|at| at >= self.offset) {
            return Ok(false);
        }
        let mut chunk = vec![0; 64 * 1024];
        let mut at = self.offset;
        loop {
            let read = self.file.read_at(&mut chunk, at)?;
            if read == 0 {
                return Ok(true);
            }
            if let Some(place) = chunk[..read].iter().position(|byte| *byte != 0) {
                self.not_zero = Some(at + place as u64);
                return Ok(false);
            }
            at += read as u64;
        }
    }

    /// Whether the file holds nothing but zeros, or nothing at all: it was made and never begun.
    pub(crate) fn is_blank(path: &Path) -> Result<bool, JournalError> {
        let failed = |source| JournalError::io(path, "read", source);
        Self::open_anywhere(path)?.only_zeros_follow().map_err(failed)
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
