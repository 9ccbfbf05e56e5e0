//! The bytes of a record and of a file's header. Little-endian throughout.
//!
//! ```text
//! header    magic 8 | version u16 | kind u8 | tail u8 | number u64 | crc32 of the 20 bytes before
//! put       crc32 | 1 or 2 | device 16 | tenant u32 | digest 32 | expiry 6 | received 6 | stamp 7      76 bytes
//! gone      crc32 | 3      | device 16 | stamp 7                                                       28 bytes
//! tenant    crc32 | 4      | tenant u32 | id 16                                                        25 bytes
//! complete  crc32 | 5      | count u64                                                                 13 bytes
//! ```
//! The crc covers all that follows it. A put is of kind 1 when the device announced itself, 2 when a gateway did. `tenant`
//! is a number that a tenant record of the same file has explained before. `complete` ends a snapshot. `tail` is 1 as long
//! as the segment before may not be on the disk to its end. Zeros up to a file's end are room that was not used.

use claim::ports::ClaimSource;
use claim::{DeviceId, TenantId, Timestamp};

use crate::memory::pack::{pack_millis, pack_stamp, unpack_millis, unpack_stamp};

pub(crate) const HEADER_BYTES: usize = 24;
pub(crate) const PUT_BYTES: usize = 76;

/// The version this program writes, and the highest it reads.
pub(crate) const VERSION: u16 = 1;
const MAGIC: [u8; 8] = *b"claimjnl";

const PUT_DEVICE: u8 = 1;
const PUT_GATEWAY: u8 = 2;
const GONE: u8 = 3;
const TENANT: u8 = 4;
const COMPLETE: u8 = 5;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileKind {
    Segment = 1,
    Snapshot = 2,
}

/// A claim as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) device: DeviceId,
    pub(crate) tenant: u32,
    pub(crate) digest: [u8; 32],
    pub(crate) expires_at: Timestamp,
    pub(crate) received_at: Timestamp,
    pub(crate) stamp: u64,
    pub(crate) source: ClaimSource,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Put(Put),
    /// The claim with this stamp was consumed or withdrawn.
    Gone {
        device: DeviceId,
        stamp: u64,
    },
    Tenant {
        index: u32,
        id: TenantId,
    },
    Complete {
        count: u64,
    },
}

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// There are too few; more may follow.
    Short,
    /// There are enough, but they are not a record.
    Bad,
}

impl Record {
    /// Appends the record.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(self.encode().as_bytes());
    }

    /// The record's bytes, without an allocation.
    pub(crate) fn encode(&self) -> Encoded {
        let mut to = Encoded { bytes: [0; PUT_BYTES], length: 4 };
        match self {
            Record::Put(put) => {
                to.add([match put.source {
                    ClaimSource::Device => PUT_DEVICE,
                    ClaimSource::Gateway => PUT_GATEWAY,
                }]);
                to.add(*put.device.as_bytes());
                to.add(put.tenant.to_le_bytes());
                to.add(put.digest);
                to.add(pack_millis(put.expires_at));
                to.add(pack_millis(put.received_at));
                to.add(pack_stamp(put.stamp));
            }
            Record::Gone { device, stamp } => {
                to.add([GONE]);
                to.add(*device.as_bytes());
                to.add(pack_stamp(*stamp));
            }
            Record::Tenant { index, id } => {
                to.add([TENANT]);
                to.add(index.to_le_bytes());
                to.add(*id.as_bytes());
            }
            Record::Complete { count } => {
                to.add([COMPLETE]);
                to.add(count.to_le_bytes());
            }
        }
        let crc = crc32fast::hash(&to.bytes[4..to.length]);
        to.bytes[..4].copy_from_slice(&crc.to_le_bytes());
        to
    }

    /// Reads the record at the beginning of `bytes`; returns it and its length.
    pub(crate) fn read(bytes: &[u8]) -> Result<(Record, usize), Fault> {
        let (crc, rest) = bytes.split_first_chunk::<4>().ok_or(Fault::Short)?;
        let (kind, body) = rest.split_first().ok_or(Fault::Short)?;
        let length = match *kind {
            PUT_DEVICE | PUT_GATEWAY => PUT_BYTES,
            GONE => 28,
            TENANT => 25,
            COMPLETE => 13,
            _ => return Err(Fault::Bad),
        };
        if bytes.len() < length {
            return Err(Fault::Short);
        }
        if crc32fast::hash(&rest[..length - 4]) != u32::from_le_bytes(*crc) {
            return Err(Fault::Bad);
        }
        let mut fields = Fields(body);
        let record = match *kind {
            PUT_DEVICE | PUT_GATEWAY => Record::Put(Put {
                device: DeviceId::from_bytes(fields.take()?),
                tenant: u32::from_le_bytes(fields.take()?),
                digest: fields.take()?,
                expires_at: unpack_millis(fields.take()?),
                received_at: unpack_millis(fields.take()?),
                stamp: unpack_stamp(fields.take()?),
                source: if *kind == PUT_DEVICE { ClaimSource::Device } else { ClaimSource::Gateway },
            }),
            GONE => Record::Gone { device: DeviceId::from_bytes(fields.take()?), stamp: unpack_stamp(fields.take()?) },
            TENANT => {
                Record::Tenant { index: u32::from_le_bytes(fields.take()?), id: TenantId::from_bytes(fields.take()?) }
            }
            _ => Record::Complete { count: u64::from_le_bytes(fields.take()?) },
        };
        Ok((record, length))
    }
}

/// A record's bytes.
pub(crate) struct Encoded {
    bytes: [u8; PUT_BYTES],
    length: usize,
}

impl Encoded {
    fn add<const N: usize>(&mut self, field: [u8; N]) {
        self.bytes[self.length..self.length + N].copy_from_slice(&field);
        self.length += N;
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (field, rest) = self.0.split_first_chunk::<N>().ok_or(Fault::Short)?;
        self.0 = rest;
        Ok(*field)
    }
}

/// A file's first bytes.
pub(crate) fn header(kind: FileKind, number: u64) -> [u8; HEADER_BYTES] {
    header_after(kind, number, Before::Synced)
}

/// What a segment's header says of the segment before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    /// It was on the disk to its last record.
    Synced = 0,
    /// A power loss may have taken its end.
    Unsynced = 1,
}

/// The first bytes of a segment, with what is known of the one before.
pub(crate) fn header_after(kind: FileKind, number: u64, before: Before) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&VERSION.to_le_bytes());
    header[10] = kind as u8;
    header[11] = before as u8;
    header[12..20].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Why a header is not one that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Not a header of the file asked for.
    Bad,
    /// Of a newer format.
    Newer(u16),
}

/// Checks a file's first bytes.
pub(crate) fn check_header(bytes: &[u8], kind: FileKind, number: u64) -> Result<Before, HeaderFault> {
    let bytes = bytes.first_chunk::<HEADER_BYTES>().ok_or(HeaderFault::Bad)?;
    let crc = crc32fast::hash(&bytes[..20]);
    if bytes[..8] != MAGIC || bytes[20..] != crc.to_le_bytes() {
        return Err(HeaderFault::Bad);
    }
    let version = u16::from_le_bytes([bytes[8], bytes[9]]);
    if version > VERSION {
        return Err(HeaderFault::Newer(version));
    }
    [Before::Synced, Before::Unsynced]
        .into_iter()
        .find(|&before| *bytes == header_after(kind, number, before))
        .ok_or(HeaderFault::Bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<(Record, usize)> {
        let put = Put {
            device: DeviceId::from_bytes([1; 16]),
            tenant: 70_000,
            digest: [2; 32],
            expires_at: Timestamp::from_millis(1_790_000_600_000),
            received_at: Timestamp::from_millis(1_790_000_000_000),
            stamp: (1 << 56) - 1,
            source: ClaimSource::Device,
        };
        vec![
            (Record::Put(put), 76),
            (Record::Put(Put { source: ClaimSource::Gateway, ..put }), 76),
            (Record::Gone { device: put.device, stamp: 9 }, 28),
            (Record::Tenant { index: 3, id: TenantId::from_bytes([4; 16]) }, 25),
            (Record::Complete { count: u64::MAX }, 13),
        ]
    }

    #[test]
    fn records_come_back_as_written() {
        for (record, length) in records() {
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            assert_eq!(bytes.len(), length);
            bytes.push(0xff);
            assert_eq!(Record::read(&bytes), Ok((record, length)));
        }
    }

    #[test]
    fn a_cut_record_is_short_and_a_changed_bit_is_bad() {
        for (record, length) in records() {
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            for cut in 0..length {
                assert_eq!(Record::read(&bytes[..cut]), Err(Fault::Short), "{record:?} cut at {cut}");
            }
            for bit in 0..length * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                changed.extend_from_slice(&[0; PUT_BYTES]);
                assert_eq!(Record::read(&changed), Err(Fault::Bad), "{record:?} bit {bit}");
            }
        }
        assert_eq!(Record::read(&[0; 100]), Err(Fault::Bad), "zeros are no record");
    }

    #[test]
    fn a_header_is_of_one_file_only() {
        let written = header(FileKind::Segment, 7);
        assert_eq!(check_header(&written, FileKind::Segment, 7), Ok(Before::Synced));
        let unsynced = header_after(FileKind::Segment, 7, Before::Unsynced);
        assert_eq!(check_header(&unsynced, FileKind::Segment, 7), Ok(Before::Unsynced));
        assert_eq!(check_header(&written, FileKind::Segment, 8), Err(HeaderFault::Bad));
        assert_eq!(check_header(&written, FileKind::Snapshot, 7), Err(HeaderFault::Bad));
        assert_eq!(check_header(&written[..23], FileKind::Segment, 7), Err(HeaderFault::Bad));
        let mut newer = written;
        newer[8..10].copy_from_slice(&(VERSION + 1).to_le_bytes());
        let crc = crc32fast::hash(&newer[..20]);
        newer[20..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(check_header(&newer, FileKind::Segment, 7), Err(HeaderFault::Newer(VERSION + 1)));
    }
}
