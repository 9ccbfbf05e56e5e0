//! Rows between stores, and as lines of a backup: one JSON array a row, the values in the order of the table's columns. Ids are
//! UUIDs as text, bytes are base64, instants are whole epoch milliseconds. One row has one form, so equal tables are equal
//! files.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use uuid::Uuid;

use super::tables::{Column, Kind, Table};

/// One value. Ordered as keys are: bytes decide.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    Null,
    Whole(i64),
    Flag(bool),
    Text(String),
    Id([u8; 16]),
    Bytes(Vec<u8>),
}

/// Never the value itself: it may be a digest, or somebody's name.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Whole(_) => "a whole number",
            Self::Flag(_) => "a flag",
            Self::Text(_) => "a text",
            Self::Id(_) => "an id",
            Self::Bytes(_) => "bytes",
        })
    }
}

/// The values of a table's columns, the key first.
pub(crate) type Row = Vec<Value>;

/// What is in a column of a row.
pub(crate) fn at<'r>(table: &Table, row: &'r [Value], column: &str) -> &'r Value {
    table.position(column).and_then(|position| row.get(position)).unwrap_or(&Value::Null)
}

impl Value {
    pub(crate) fn whole(&self) -> Option<i64> {
        match self {
            Self::Whole(whole) => Some(*whole),
            _ => None,
        }
    }

    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn id(&self) -> Option<[u8; 16]> {
        match self {
            Self::Id(id) => Some(*id),
            _ => None,
        }
    }

    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Appends a row's line, with its end.
pub(crate) fn write_line(line: &mut Vec<u8>, row: &[Value]) {
    for (position, value) in row.iter().enumerate() {
        line.push(if position == 0 { b'[' } else { b',' });
        match value {
            Value::Null => line.extend_from_slice(b"null"),
            Value::Whole(whole) => line.extend_from_slice(whole.to_string().as_bytes()),
            Value::Flag(flag) => line.extend_from_slice(if *flag { b"true" } else { b"false" }),
            Value::Text(text) => line.extend_from_slice(Json::from(text.as_str()).to_string().as_bytes()),
            Value::Id(id) => {
                line.push(b'"');
                let mut buffer = [0; uuid::fmt::Hyphenated::LENGTH];
                line.extend_from_slice(Uuid::from_bytes(*id).hyphenated().encode_lower(&mut buffer).as_bytes());
                line.push(b'"');
            }
            Value::Bytes(bytes) => {
                line.push(b'"');
                line.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                line.push(b'"');
            }
        }
    }
    line.extend_from_slice(b"]\n");
}

/// The row of a line. The error is what is wrong with it; it quotes nothing.
pub(crate) fn read_line(line: &[u8], columns: &[Column]) -> Result<Row, String> {
    let values: Vec<Json> = serde_json::from_slice(line).map_err(|_| "no JSON array".to_owned())?;
    if values.len() != columns.len() {
        return Err(format!("{} values, not {}", values.len(), columns.len()));
    }
    let read = |(value, column): (Json, &Column)| {
        read_value(value, column.kind).ok_or_else(|| format!("`{}` is not what it should be", column.name))
    };
    values.into_iter().zip(columns).map(read).collect()
}

fn read_value(value: Json, kind: Kind) -> Option<Value> {
    Some(match (value, kind) {
        (Json::Null, _) => Value::Null,
        (Json::Number(number), Kind::Whole) => Value::Whole(number.as_i64()?),
        (Json::Bool(flag), Kind::Flag) => Value::Flag(flag),
        (Json::String(text), Kind::Text) => Value::Text(text),
        (Json::String(text), Kind::Id) => Value::Id(Uuid::try_parse(&text).ok()?.into_bytes()),
        (Json::String(text), Kind::Bytes) => Value::Bytes(STANDARD.decode(text).ok()?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_back_as_it_was_and_nothing_else_reads() {
        let columns = [Kind::Whole, Kind::Flag, Kind::Text, Kind::Id, Kind::Bytes, Kind::Text]
            .map(|kind| Column { name: "column", kind });
        let row = vec![
            Value::Whole(i64::MIN),
            Value::Flag(true),
            Value::Text("a \"quoted\"\nline \u{7} \u{1F600}".to_owned()),
            Value::Id([0xab; 16]),
            Value::Bytes(vec![0, 255, 7]),
            Value::Null,
        ];
        let mut line = Vec::new();
        write_line(&mut line, &row);
        assert!(read_line(&line, &columns).is_ok_and(|read| read == row));
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        for bad in [
            "[1,true,\"\",\"x\",\"\",null]",
            "[1,true,\"\",null,\"not base64\",null]",
            "[1,1,\"\",null,\"\",null]",
            "[1.5,true,\"\",null,\"\",null]",
            "[1,true]",
            "{}",
            "[1,true",
        ] {
            assert!(read_line(bad.as_bytes(), &columns).is_err(), "{bad}");
        }
    }
}
