//! JSON objects in one array or one after the other, cut out of a file without reading them: one at a time is in memory.

use std::io::{BufRead, Read};

use super::{BOM, FileFault, ROW_BYTES};

/// The objects of a file under way.
pub(super) struct Objects<R: BufRead> {
    reader: R,
    /// Bytes read so far.
    at: u64,
    number: u64,
    in_array: bool,
    over: bool,
}

impl<R: BufRead> Objects<R> {
    pub(super) fn new(mut reader: R) -> Result<Self, FileFault> {
        let mut at = 0;
        if reader.fill_buf()?.starts_with(BOM) {
            reader.consume(BOM.len());
            at = BOM.len() as u64;
        }
        let mut objects = Self { reader, at, number: 0, in_array: false, over: false };
        match objects.skip(&[])? {
            None => return Err(FileFault::Empty),
            Some(b'[') => {
                objects.take()?;
                objects.in_array = true;
            }
            Some(_) => {}
        }
        Ok(objects)
    }

    /// Whether the objects are in an array, so that a file which was cut between two of them shows.
    pub(super) fn in_array(&self) -> bool {
        self.in_array
    }

    /// The next object: its number, from 1, and its bytes. Nothing comes after a fault.
    pub(super) fn next(&mut self) -> Option<Result<(u64, Vec<u8>), FileFault>> {
        if self.over {
            return None;
        }
        let cut = self.cut();
        self.over = !matches!(cut, Ok(Some(_)));
        Some(cut.transpose()?.map(|object| {
            self.number += 1;
            (self.number, object)
        }))
    }

    /// The bytes of the next object; `None` after the last.
    fn cut(&mut self) -> Result<Option<Vec<u8>>, FileFault> {
        let separators: &[u8] = if self.number > 0 { b"," } else { b"" };
        match self.skip(separators)? {
            Some(b'{') => {}
            None if !self.in_array => return Ok(None),
            Some(b']') if self.in_array => {
                self.take()?;
                return match self.skip(&[])? {
                    None => Ok(None),
                    Some(_) => Err(FileFault::NoObject(self.at)),
                };
            }
            _ => return Err(FileFault::NoObject(self.at)),
        }
        let start = self.at;
        let (mut object, mut depth, mut in_text, mut escaped) = (Vec::new(), 0_usize, false, false);
        loop {
            let Some(byte) = self.take()? else { return Err(FileFault::NoObject(start)) };
            object.push(byte);
            if object.len() > ROW_BYTES {
                return Err(FileFault::RowTooLong(self.number + 1));
            }
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                b'{' if !in_text => depth += 1,
                b'}' if !in_text => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(Some(object));
            }
        }
    }

    /// The next byte that is neither white space nor one of `also`; it stays.
    fn skip(&mut self, also: &[u8]) -> Result<Option<u8>, FileFault> {
        loop {
            match self.reader.fill_buf()?.first() {
                Some(byte) if byte.is_ascii_whitespace() || also.contains(byte) => {
                    self.take()?;
                }
                other => return Ok(other.copied()),
            }
        }
    }

    fn take(&mut self) -> Result<Option<u8>, FileFault> {
        let mut byte = [0];
        let read = self.reader.by_ref().take(1).read(&mut byte)?;
        self.at += read as u64;
        Ok((read == 1).then_some(byte[0]))
    }
}
