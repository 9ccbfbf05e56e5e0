//! The files that makers import devices from, row by row. Every fault of a row is found and named, with the row, the
//! column, what stands there (never a secret) and what should.
//!
//! A row is judged by itself; what is in the registry, and whether a row repeats another, is for whoever imports. Only a
//! manifest's reader finds a DevEUI that is there twice.

pub mod claims;
mod csv;
mod fields;
mod json;
pub mod manifest;
mod objects;
pub mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead};

use claim::{Eui64, ListingId, Secret};
use serde::Serialize;

use crate::{ClaimCode, Window};

pub(crate) use fields::TEXTS;

/// The longest row, in bytes.
pub const ROW_BYTES: usize = 65_536;

/// The longest cell, in bytes.
pub const CELL_BYTES: usize = 4096;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// The Things Stack's CSV, with columns of our own.
    Csv,
    /// The Things Stack's JSON: end devices in an array or one after the other.
    Json,
    /// A maker's manifest of secure elements, signed: [`manifest`].
    Microchip,
}

impl FileFormat {
    /// The format of an id.
    pub fn of_id(id: &str) -> Option<Self> {
        match id {
            "the-things-stack-csv" => Some(Self::Csv),
            "the-things-stack" => Some(Self::Json),
            "microchip" => Some(Self::Microchip),
            _ => None,
        }
    }

    /// The format's id.
    pub fn id(self) -> &'static str {
        match self {
            Self::Csv => "the-things-stack-csv",
            Self::Json => "the-things-stack",
            Self::Microchip => "microchip",
        }
    }

    /// What a file that begins so is likely to be.
    pub fn guess(head: &[u8]) -> Self {
        let head = head.strip_prefix(BOM).unwrap_or(head);
        match head.iter().find(|byte| !byte.is_ascii_whitespace()) {
            _ if manifest::begins(head) => Self::Microchip,
            Some(b'[' | b'{') => Self::Json,
            _ => Self::Csv,
        }
    }
}

/// A root key of 32 hex digits.
pub fn root_key(text: &str) -> Option<Secret<[u8; 16]>> {
    fields::key(text).ok()
}

/// The byte order mark that some spreadsheets write.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// A device as a file describes it. Keys and codes are secrets.
#[derive(Debug)]
pub struct Record {
    /// Its id in the application: as given, else `eui-` and the DevEUI, else the external id.
    pub id: ListingId,
    /// Its DevEUI.
    pub dev_eui: Option<Eui64>,
    /// Its JoinEUI.
    pub join_eui: Option<Eui64>,
    /// LoRa Alliance vendor.
    pub vendor_id: Option<u16>,
    /// The vendor's profile.
    pub vendor_profile_id: Option<u16>,
    /// Root key.
    pub app_key: Option<Secret<[u8; 16]>>,
    /// Root key of LoRaWAN 1.1.
    pub nwk_key: Option<Secret<[u8; 16]>>,
    /// Text for people, at most 50 characters.
    pub label: Option<String>,
    /// Longer text, at most 2,000 characters.
    pub description: Option<String>,
    /// LoRaWAN texts that are kept and not interpreted, by column.
    pub texts: BTreeMap<&'static str, String>,
    /// The claim code.
    pub code: Option<ClaimCode>,
    /// When the code works. Without a code it must be open.
    pub window: Window,
    /// The maker's own id.
    pub external_id: Option<String>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Whether this device may be claimed.
    pub claiming_allowed: Option<bool>,
    /// Whether the root keys are known to others.
    pub root_keys_exposed: bool,
    /// The device's public key: a DER SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), of a P-256 key 91 bytes. Only from a
    /// manifest, whose certificates prove it.
    pub public_key: Option<Vec<u8>>,
    /// Who put the key into the device, at most 255 characters.
    pub provisioner: Option<String>,
}

/// A fault of a row, or something its maker should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: a column of CSV, a path in JSON.
    pub column: String,
    /// What stands there; not for secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its name.
    pub code: &'static str,
    /// What should stand there.
    pub reason: String,
}

/// A row that was read.
#[derive(Debug)]
pub struct Row {
    /// The line where it starts (the header is line 1), or the number of the object.
    pub row: u64,
    /// Its id, if it has one that can be.
    pub id: Option<String>,
    /// The device, or all that is wrong with it.
    pub outcome: Result<Box<Record>, Vec<Fault>>,
    /// What does not stop it.
    pub warnings: Vec<Fault>,
}

/// Why a file cannot be read at all, or not to its end.
#[derive(Debug)]
pub enum FileFault {
    /// Nothing in it.
    Empty,
    /// The header has no known column.
    NoKnownColumn,
    /// A column is there twice; which.
    RepeatedColumn(String),
    /// Not JSON objects; at which byte.
    NoObject(u64),
    /// A manifest that is not in an array: nobody could tell whether it is whole.
    NoArray,
    /// A manifest is to be read, and nobody is trusted to sign one.
    NoTrust,
    /// A row is longer than [`ROW_BYTES`]; which.
    RowTooLong(u64),
    /// The file could not be read.
    Io(io::Error),
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the file is empty"),
            Self::NoKnownColumn => f.write_str(
                "the first line names no known column, such as `id`, `dev_eui` or `claim_authentication_code`",
            ),
            Self::RepeatedColumn(name) => write!(f, "the column `{name}` is there twice"),
            Self::NoObject(at) => write!(f, "byte {at}: an object `{{…}}` is expected, alone or in one array"),
            Self::NoArray => f.write_str("a manifest is one array `[…]`"),
            Self::NoTrust => f.write_str(
                "a manifest is read only where `manifest.log_signers` and `manifest.roots` say whom to believe",
            ),
            Self::RowTooLong(row) => write!(f, "row {row} is longer than {ROW_BYTES} bytes"),
            Self::Io(error) => write!(f, "the file could not be read: {error}"),
        }
    }
}

impl std::error::Error for FileFault {}

/// A file under way. Ends after the last row, or after the fault that makes the rest unreadable.
pub struct Reading<R: BufRead> {
    rows: Rows<R>,
    /// What is to be said of the file as a whole: columns that are not known.
    pub warnings: Vec<Fault>,
}

enum Rows<R: BufRead> {
    Csv(Box<csv::Rows<R>>),
    Json(json::Rows<R>),
    Manifest(Box<manifest::Entries<R>>),
}

impl<R: BufRead> Reading<R> {
    /// Begins to read. A manifest needs more than its file: [`Reading::manifest`].
    pub fn new(format: FileFormat, reader: R) -> Result<Self, FileFault> {
        Ok(match format {
            FileFormat::Csv => {
                let (rows, warnings) = csv::Rows::new(reader)?;
                Self { rows: Rows::Csv(Box::new(rows)), warnings }
            }
            FileFormat::Json => Self { rows: Rows::Json(json::Rows::new(reader)?), warnings: Vec::new() },
            FileFormat::Microchip => return Err(FileFault::NoTrust),
        })
    }

    /// Begins to read a manifest, of which entries by those are believed whom `trust` names.
    pub fn manifest(reader: R, trust: &manifest::Trust, options: manifest::Options) -> Result<Self, FileFault> {
        let (entries, warnings) = manifest::Entries::new(reader, trust, options)?;
        Ok(Self { rows: Rows::Manifest(Box::new(entries)), warnings })
    }
}

impl<R: BufRead> Iterator for Reading<R> {
    type Item = Result<Row, FileFault>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.rows {
            Rows::Csv(rows) => rows.next(),
            Rows::Json(rows) => rows.next(),
            Rows::Manifest(entries) => entries.next(),
        }
    }
}
