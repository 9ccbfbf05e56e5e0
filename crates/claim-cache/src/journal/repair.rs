//! Getting a damaged journal to start again, by an operator's decision: every record that can still be read is kept, what
//! cannot is left out, and each damaged file stays beside as `….damaged`.
//!
//! What is lost may bring an older announcement of a device back until that one's own end; the registry's fence still keeps
//! spent ones from being worth anything.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use claim::TenantId;

use super::record::{FileKind, Record, header};
use super::segment::{Opened, Reader, Step};
use super::{Folder, JournalError};

/// What a repair did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Records kept, in all files.
    pub kept: u64,
    /// Bytes that could not be read as records.
    pub skipped_bytes: u64,
    /// Claims that could be read but not attributed to a tenant.
    pub orphaned: u64,
    /// The damaged files, under the names they have now.
    pub damaged: Vec<PathBuf>,
    /// Files that were missing and have been made, empty.
    pub made: Vec<PathBuf>,
}

/// Repairs the claim journal in `folder` (see [`super::FOLDER`]). No claimd may use it meanwhile.
pub fn repair(folder: &Path) -> Result<RepairReport, JournalError> {
    let folder = Folder::open(folder)?;
    let mut report = RepairReport::default();
    let files = folder.list()?;
    let since = files.iter().filter(|(kind, _)| *kind == FileKind::Snapshot).map(|(_, number)| *number).max();
    for &(kind, number) in files.iter().filter(|&&(_, number)| number >= since.unwrap_or(0)) {
        repair_file(&folder, kind, number, &mut report)?;
    }
    let segments: Vec<u64> = files
        .iter()
        .filter(|&&(kind, number)| kind == FileKind::Segment && number >= since.unwrap_or(0))
        .map(|(_, number)| *number)
        .collect();
    if let (Some(&first), Some(&last)) = (segments.first(), segments.last()) {
        for number in (since.unwrap_or(first)..last).filter(|number| !segments.contains(number)) {
            let path = folder.file(FileKind::Segment, number);
            replace(&folder, &path, &header(FileKind::Segment, number))?;
            report.made.push(path);
        }
    }
    folder.sync().map_err(|source| JournalError::io(folder.path(), "sync folder", source))?;
    Ok(report)
}

fn repair_file(folder: &Folder, kind: FileKind, number: u64, report: &mut RepairReport) -> Result<(), JournalError> {
    let path = folder.file(kind, number);
    let mut good = header(kind, number).to_vec();
    let (mut kept, mut skipped, mut orphaned) = (0u64, 0u64, 0u64);
    let mut complete = false;
    let mut tenants: HashMap<u32, TenantId> = HashMap::new();
    let mut reader = match Reader::open(&path, kind, number)? {
        Opened::Good(reader) => reader,
        Opened::NoHeader => {
            skipped += 1;
            Reader::open_anywhere(&path)?
        }
    };
    loop {
        match reader.next().map_err(|source| JournalError::io(&path, "read", source))? {
            Step::End => break,
            Step::Damage { .. } => {
                reader.skip_byte();
                skipped += 1;
            }
            Step::Record(Record::Complete { count }) => complete = count == kept,
            Step::Record(Record::Put(put)) if !tenants.contains_key(&put.tenant) => orphaned += 1,
            Step::Record(record) => {
                if let Record::Tenant { index, id } = record {
                    tenants.insert(index, id);
                }
                record.write(&mut good);
                kept += 1;
            }
        }
    }
    report.kept += kept;
    report.skipped_bytes += skipped;
    report.orphaned += orphaned;
    if skipped == 0 && orphaned == 0 && (complete || kind == FileKind::Segment) {
        return Ok(());
    }
    if kind == FileKind::Snapshot {
        Record::Complete { count: kept }.write(&mut good);
    }
    let aside = aside(&path);
    std::fs::copy(&path, &aside).map_err(|source| JournalError::io(&aside, "copy to", source))?;
    report.damaged.push(aside);
    replace(folder, &path, &good)
}

/// A name for the damaged file that nothing has yet.
fn aside(path: &Path) -> PathBuf {
    let named = |suffix: String| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let first = named(".damaged".to_owned());
    if !first.exists() {
        return first;
    }
    (2u32..).map(|n| named(format!(".damaged-{n}"))).find(|path| !path.exists()).unwrap_or(first)
}

fn replace(folder: &Folder, path: &Path, bytes: &[u8]) -> Result<(), JournalError> {
    let unfinished = folder.unfinished();
    let _ = std::fs::remove_file(&unfinished);
    let write = || {
        let mut file = folder.create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    };
    write().map_err(|source| JournalError::io(path, "rewrite", source))
}
