//! A file's bad rows, as they came and with the reason, so that they can be mended and imported again. They hold codes and
//! keys like the file they are from.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use super::csv::Table;
use super::objects::Objects;
use super::{FileFault, FileFormat};

/// Copies the rows that have a reason; how many they are.
pub fn bad_rows<R: BufRead, W: Write>(
    format: FileFormat,
    reader: R,
    reasons: &BTreeMap<u64, String>,
    writer: W,
) -> Result<u64, FileFault> {
    match format {
        FileFormat::Csv => csv_rows(Table::new(reader)?, reasons, writer),
        FileFormat::Json | FileFormat::Microchip => json_objects(Objects::new(reader)?, reasons, writer),
    }
}

fn csv_rows<R: BufRead, W: Write>(
    mut table: Table<R>,
    reasons: &BTreeMap<u64, String>,
    writer: W,
) -> Result<u64, FileFault> {
    let mut writer = csv::WriterBuilder::new().delimiter(table.delimiter()).flexible(true).from_writer(writer);
    // A reason of an earlier time stays where it is; the new one is the last column.
    writer.write_record(table.header().iter().map(String::as_str).chain(["reason"])).map_err(unwritten)?;
    let mut count = 0;
    while let Some(line) = table.advance() {
        let Some(reason) = reasons.get(&line?) else { continue };
        count += 1;
        let cells = table.record().iter().map(|cell| cell.strip_suffix(b"\r").unwrap_or(cell));
        writer.write_record(cells.chain([reason.as_bytes()])).map_err(unwritten)?;
    }
    writer.flush()?;
    Ok(count)
}

fn json_objects<R: BufRead, W: Write>(
    mut objects: Objects<R>,
    reasons: &BTreeMap<u64, String>,
    mut writer: W,
) -> Result<u64, FileFault> {
    let mut count = 0;
    while let Some(object) = objects.next() {
        let (number, object) = object?;
        let Some(reason) = reasons.get(&number) else { continue };
        count += 1;
        // What is no JSON cannot take a member; it comes back as it is.
        let line = match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&object) {
            Ok(mut object) => {
                object.insert("reason".to_owned(), reason.as_str().into());
                serde_json::to_vec(&object).unwrap_or_default()
            }
            Err(_) => object,
        };
        writer.write_all(&line)?;
        writer.write_all(b"\n")?;
    }
    writer.flush()?;
    Ok(count)
}

fn unwritten(error: csv::Error) -> FileFault {
    FileFault::Io(io::Error::other(error))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn bad_rows_come_back_as_they_were_with_the_reason() {
        let reasons = BTreeMap::from([(3, "no such day".to_owned()), (4, "a \"b\"".to_owned())]);
        let mut out = Vec::new();
        let file = "\u{feff}id;name\npump-1;A\npump-2;\"x;y\"\npump-3;C\n";
        assert_eq!(bad_rows(FileFormat::Csv, Cursor::new(file), &reasons, &mut out).unwrap(), 2);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "id;name;reason\npump-2;\"x;y\";no such day\npump-3;C;\"a \"\"b\"\"\"\n"
        );
        let mut out = Vec::new();
        let reasons = BTreeMap::from([(2, "why".to_owned())]);
        let file = "[{\"ids\":{}}, {\"name\":\"B\"}]";
        assert_eq!(bad_rows(FileFormat::Json, Cursor::new(file), &reasons, &mut out).unwrap(), 1);
        assert_eq!(String::from_utf8(out).unwrap(), "{\"name\":\"B\",\"reason\":\"why\"}\n");
    }
}
