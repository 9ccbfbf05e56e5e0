//! A backup: a folder with a file of lines for each table, `manifest.json`, and `SHA256SUMS` over all of them, which
//! `sha256sum -c` reads too. Its owner's alone. Written beside its place and put there whole, after it was read back.
//!
//! The sums find what broke by itself. They are no signature: whoever may write the folder can write new ones.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};

use super::check::{self, ChainState, hex};
use super::manifest::{FORMAT, LAYOUT, Manifest, Note, TableSum};
use super::tables::{TABLES, Table};
use super::value::{Row, Value, read_line};
use super::{MoveError, Rows, Store, Trouble, Watch};
use crate::keys::ROOT;

const MANIFEST: &str = "manifest.json";
const SUMS: &str = "SHA256SUMS";
/// The longest line: an import's batch of a hundred rows of 64 KiB each, as base64, with room to spare.
const LINE_BYTES: u64 = 64 * 1024 * 1024;
const DISK: &str = "check the folder, its owner, and that there is room";

fn file_of(table: &str) -> String {
    format!("{table}.jsonl")
}

fn disk(path: &Path, error: &std::io::Error) -> MoveError {
    MoveError::unavailable(format!("{}: {error}", path.display()), DISK)
}

/// Writes a backup of `store` to the folder `to`, which must not be there or be empty.
pub fn back_up(store: &Store, to: &Path, note: &Note, watch: &mut dyn Watch) -> Result<Manifest, MoveError> {
    // Without a slash at its end: what is beside it is named after it.
    let to: &Path = &to.components().collect::<PathBuf>();
    let empty = !to.exists() || fs::read_dir(to).map_err(|error| disk(to, &error))?.next().is_none();
    if !empty {
        let what = format!("{} is there already", to.display());
        return Err(MoveError::new(Trouble::Conflict, what, "give a folder of its own to each backup"));
    }
    let mut rows = store.rows()?;
    let mut beside = to.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    clear(&beside)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&beside).map_err(|error| disk(&beside, &error))?;
    let (kind, schema) = store.kind();
    let written = write(&beside, rows.as_mut(), kind, schema, note, watch);
    // Lets the log go.
    drop(rows);
    let finished = written.and_then(|()| Backup::open(&beside, watch));
    let manifest = match finished {
        Ok(backup) => backup.manifest,
        Err(error) => {
            // What is left can be of no use to anybody.
            let _ = clear(&beside);
            return Err(error);
        }
    };
    fs::rename(&beside, to).map_err(|error| disk(to, &error))?;
    let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| disk(parent, &error))?;
    Ok(manifest)
}

/// Removes what a stopped backup left: the files that a backup has, and nothing else.
fn clear(folder: &Path) -> Result<(), MoveError> {
    let names = TABLES.iter().map(|table| file_of(table.name)).chain([MANIFEST.to_owned(), SUMS.to_owned()]);
    for path in names.map(|name| folder.join(name)) {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(disk(&path, &error)),
            _ => {}
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(disk(folder, &error)),
        _ => Ok(()),
    }
}

fn write(
    folder: &Path,
    rows: &mut dyn Rows,
    store: &str,
    schema: i64,
    note: &Note,
    watch: &mut dyn Watch,
) -> Result<(), MoveError> {
    // The files of all tables are open: it is two dozen.
    let mut files = HashMap::new();
    for table in &TABLES {
        files.insert(table.name, Writing::new(folder, &file_of(table.name))?);
    }
    let mut rooted = false;
    let tables = check::each_row(rows, "reading", watch, |table, line, row| {
        rooted |= table.name == "install_secret" && row[0].text() == Some(ROOT);
        files.get_mut(table.name).map_or(Ok(()), |file| file.write(line))
    })?;
    if !rooted && tables.iter().any(|table| table.name == "account" && table.rows > 0) {
        let what = "the registry was not opened since its last upgrade: the keys of its digests are not in it";
        return Err(MoveError::new(Trouble::Unfit, what, "run `claimd migrate up`"));
    }
    let mut sums = String::new();
    for table in &TABLES {
        let Some(file) = files.remove(table.name) else { continue };
        sums += &file.end()?;
    }
    let mut again =
        Backup { folder: folder.to_owned(), manifest: made_of(tables, store, schema, note), open: HashMap::new() };
    let mut hashes = again.twin();
    again.manifest.audit = check::chain(&mut again, &mut hashes, watch)?;
    let mut text = serde_json::to_vec_pretty(&again.manifest)
        .map_err(|error| MoveError::unavailable(format!("the manifest cannot be written: {error}"), DISK))?;
    text.push(b'\n');
    let mut file = Writing::new(folder, MANIFEST)?;
    file.write(&text)?;
    sums += &file.end()?;
    let mut file = Writing::new(folder, SUMS)?;
    file.write(sums.as_bytes())?;
    file.end()?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| disk(folder, &error))
}

fn made_of(tables: Vec<TableSum>, store: &str, schema: i64, note: &Note) -> Manifest {
    Manifest {
        format: FORMAT.to_owned(),
        layout: LAYOUT,
        claimd: note.claimd.clone(),
        created: note.created.clone(),
        store: store.to_owned(),
        schema,
        tables,
        audit: ChainState { sealed: 0, unsealed: 0, broken: None },
    }
}

/// A file that is being written.
struct Writing {
    file: BufWriter<File>,
    path: PathBuf,
    name: String,
    context: Context,
}

impl Writing {
    fn new(folder: &Path, name: &str) -> Result<Self, MoveError> {
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = BufWriter::new(file.map_err(|error| disk(&path, &error))?);
        Ok(Self { file, path, name: name.to_owned(), context: Context::new(&SHA256) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), MoveError> {
        self.context.update(bytes);
        self.file.write_all(bytes).map_err(|error| disk(&self.path, &error))
    }

    /// On disk; its line of the sums.
    fn end(self) -> Result<String, MoveError> {
        let file = self.file.into_inner().map_err(|error| disk(&self.path, error.error()))?;
        file.sync_all().map_err(|error| disk(&self.path, &error))?;
        Ok(format!("{}  {}\n", hex(self.context.finish().as_ref()), self.name))
    }
}

/// A backup whose files are what its sums and its manifest say.
pub struct Backup {
    folder: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
    open: HashMap<&'static str, Reading>,
}

struct Reading {
    file: BufReader<File>,
    /// The key of the last row.
    last: Vec<Value>,
    line: u64,
}

impl Backup {
    /// Reads all of it, and finds whatever is not as it was written.
    pub fn open(folder: &Path, watch: &mut dyn Watch) -> Result<Self, MoveError> {
        let path = folder.join(SUMS);
        let sums = fs::read_to_string(&path).map_err(|error| {
            let what = format!("{} is no backup: {SUMS}: {error}", folder.display());
            MoveError::new(Trouble::Unfit, what, "give the folder that `claimd backup` made")
        })?;
        let mut wanted: HashMap<&str, &str> =
            sums.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (name, sum)).collect();
        let mut same = |name: &str| -> Result<(), MoveError> {
            let path = folder.join(name);
            let sum =
                wanted.remove(name).ok_or_else(|| MoveError::damaged(format!("{SUMS} has no line for {name}")))?;
            let found = sum_of(&path)?;
            if found == sum {
                return Ok(());
            }
            Err(MoveError::damaged(format!("{} is not as it was written: its SHA-256 is another", path.display())))
        };
        same(MANIFEST)?;
        let text = fs::read(folder.join(MANIFEST)).map_err(|error| disk(folder, &error))?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|error| MoveError::damaged(format!("{MANIFEST} of {}: {error}", folder.display())))?;
        if manifest.format != FORMAT || manifest.layout > LAYOUT {
            let what = format!(
                "{} is a backup of layout {}, this claimd reads up to {LAYOUT}",
                folder.display(),
                manifest.layout
            );
            return Err(MoveError::new(
                Trouble::Unfit,
                what,
                "restore it with the claimd that made it, or a newer one",
            ));
        }
        let columns = |table: &Table| table.columns.iter().map(|column| column.name.to_owned()).collect::<Vec<_>>();
        let fits = |(sum, table): (&TableSum, &Table)| sum.name == table.name && sum.columns == columns(table);
        if manifest.tables.len() != TABLES.len() || !manifest.tables.iter().zip(&TABLES).all(fits) {
            let what = format!("{} has other tables or columns than this claimd", folder.display());
            let next = "restore it with the claimd that made it, then run `claimd migrate up` with this one";
            return Err(MoveError::new(Trouble::Unfit, what, next));
        }
        for table in &TABLES {
            same(&file_of(table.name))?;
        }
        if let Some(name) = wanted.keys().next() {
            return Err(MoveError::damaged(format!("{SUMS} names {name}, which is no part of a backup")));
        }
        let mut backup = Self { folder: folder.to_owned(), manifest, open: HashMap::new() };
        // Every line is a row, in the order of keys, and the tables are those of the manifest.
        let sums = check::sums(&mut backup, "verifying", watch)?;
        if let Some((_, said)) = sums.iter().zip(&backup.manifest.tables).find(|(sum, said)| sum != said) {
            return Err(MoveError::damaged(format!("`{}` is not what the manifest says", said.name)));
        }
        Ok(backup)
    }

    /// The chains of its audit log.
    pub(super) fn chain(&mut self, watch: &mut dyn Watch) -> Result<ChainState, MoveError> {
        let mut hashes = self.twin();
        check::chain(self, &mut hashes, watch)
    }

    /// The same files, read independently.
    fn twin(&self) -> Self {
        Self { folder: self.folder.clone(), manifest: self.manifest.clone(), open: HashMap::new() }
    }

    fn begin(&self, table: &'static Table) -> Result<Reading, MoveError> {
        let path = self.folder.join(file_of(table.name));
        let file = BufReader::new(File::open(&path).map_err(|error| disk(&path, &error))?);
        Ok(Reading { file, last: Vec::new(), line: 0 })
    }
}

fn sum_of(path: &Path) -> Result<String, MoveError> {
    let mut file = File::open(path).map_err(|error| MoveError::damaged(format!("{}: {error}", path.display())))?;
    let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(|error| disk(path, &error))? {
            0 => return Ok(hex(context.finish().as_ref())),
            read => context.update(&buffer[..read]),
        }
    }
}

impl Reading {
    /// The next row.
    fn next(&mut self, table: &'static Table) -> Result<Option<Row>, MoveError> {
        let mut line = Vec::new();
        self.line += 1;
        let odd = |at: u64, what: &str| MoveError::damaged(format!("line {at} of {}: {what}", file_of(table.name)));
        let read = Read::take(&mut self.file, LINE_BYTES).read_until(b'\n', &mut line);
        if read.map_err(|error| odd(self.line, &error.to_string()))? == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            return Err(odd(self.line, "it has no end"));
        }
        let row = read_line(&line, table.columns).map_err(|what| odd(self.line, &what))?;
        let key = row[..table.key].to_vec();
        if key.contains(&Value::Null) || key <= self.last {
            return Err(odd(self.line, "it is not behind the line before it"));
        }
        self.last = key;
        Ok(Some(row))
    }
}

impl Rows for Backup {
    /// In the order of the file: `after` is where the last page ended, or nothing for a new beginning.
    fn page(&mut self, table: &'static Table, after: Option<&[Value]>, most: usize) -> Result<Vec<Row>, MoveError> {
        if after.is_none() {
            let reading = self.begin(table)?;
            self.open.insert(table.name, reading);
        }
        let Some(reading) = self.open.get_mut(table.name) else { return Ok(Vec::new()) };
        let mut page = Vec::new();
        while page.len() < most {
            match reading.next(table)? {
                Some(row) => page.push(row),
                None => break,
            }
        }
        Ok(page)
    }
}
