//! The chain: `hash = SHA-256(hash of the row before, canonical row)`, 32 zero bytes before the first row.
//!
//! It shows what was changed, removed or put in by whoever could write the database but not every hash after it. Somebody
//! who makes all hashes anew is found only by a head that is kept elsewhere: in an export, or on paper.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::AuditRow;
use super::canonical::canonical;

/// The hash of a row and, by it, of all rows before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChainHash([u8; 32]);

impl ChainHash {
    /// What stands before the first row.
    pub const START: Self = Self([0; 32]);

    /// The hash with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 64 hex digits, in lower case, as they are shown.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainHash({self})")
    }
}

impl Serialize for ChainHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const PREV_HASH: &str = "prevHash";
const HASH: &str = "hash";

/// The hash of a row, given as its JSON object; a seal in it is left out. `None`: no row has such members.
pub fn link(prev: ChainHash, row: &Map<String, Value>) -> Option<ChainHash> {
    let mut row = row.clone();
    row.remove(PREV_HASH);
    row.remove(HASH);
    let mut hasher = Sha256::new();
    hasher.update(prev.0);
    hasher.update(canonical(&Value::Object(row))?);
    Some(ChainHash(hasher.finalize().into()))
}

/// What is wrong with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It is not what was sealed.
    Changed,
    /// Rows before it are missing, or were put in.
    Gap,
    /// It is not sealed, and a row after it is: it was put in.
    Unsealed,
    /// It was sealed and is not there any more.
    Gone,
    /// It does not come after the row before it.
    Order,
    /// It is no row.
    Unreadable,
}

impl Break {
    /// What is wrong, for people.
    pub fn text(self) -> &'static str {
        match self {
            Break::Changed => "it is not what was sealed",
            Break::Gap => "rows before it are missing, or were put in",
            Break::Unsealed => "it was put in later: it is not sealed, and rows after it are",
            Break::Gone => "it was sealed, and is not there any more",
            Break::Order => "it does not come after the row before it",
            Break::Unreadable => "it is no row of an audit log",
        }
    }
}

/// The first broken row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its position, if it says one.
    pub seq: Option<i64>,
    /// What is wrong with it.
    pub what: Break,
}

/// Follows a chain row by row. Rows that are not sealed yet may stand at its end.
#[derive(Clone, Debug)]
pub struct ChainCheck {
    /// What the next sealed row must name as the hash before it; `None`: whatever it names.
    prev: Option<ChainHash>,
    /// Whether rows need not follow each other.
    single: bool,
    seq: i64,
    sealed: u64,
    /// How many, and the first.
    unsealed: Option<(u64, i64)>,
}

impl ChainCheck {
    /// From a tenant's first row.
    pub fn from_start() -> Self {
        Self { prev: Some(ChainHash::START), single: false, seq: 0, sealed: 0, unsealed: None }
    }

    /// From some row on; what it names as the hash before it is believed.
    pub fn from_anywhere() -> Self {
        Self { prev: None, ..Self::from_start() }
    }

    /// Each row by itself: those of one device do not follow each other.
    pub fn each() -> Self {
        Self { prev: None, single: true, ..Self::from_start() }
    }

    /// Takes the next row as the log gives it.
    pub fn row(&mut self, row: &AuditRow) -> Result<(), Broken> {
        // What cannot be written as JSON was never sealed.
        self.next(&serde_json::to_value(row).unwrap_or_default())
    }

    /// Takes the next row, as JSON. After a broken one the check is over.
    pub fn next(&mut self, row: &Value) -> Result<(), Broken> {
        let seq = row["seq"].as_i64();
        let broken = |what| Broken { seq, what };
        let (Some(members), Some(position)) = (row.as_object(), seq) else { return Err(broken(Break::Unreadable)) };
        if position <= self.seq {
            return Err(broken(Break::Order));
        }
        self.seq = position;
        if !members.contains_key(HASH) && !members.contains_key(PREV_HASH) {
            let (count, first) = self.unsealed.unwrap_or((0, position));
            self.unsealed = Some((count + 1, first));
            return Ok(());
        }
        if let Some((_, first)) = self.unsealed {
            return Err(Broken { seq: Some(first), what: Break::Unsealed });
        }
        let named = |name| members.get(name).and_then(Value::as_str).and_then(ChainHash::parse);
        let (Some(prev), Some(hash)) = (named(PREV_HASH), named(HASH)) else {
            return Err(broken(Break::Unreadable));
        };
        if link(prev, members) != Some(hash) {
            return Err(broken(Break::Changed));
        }
        if !self.single && self.prev.is_some_and(|expected| expected != prev) {
            return Err(broken(Break::Gap));
        }
        self.prev = Some(hash);
        self.sealed += 1;
        Ok(())
    }

    /// Sealed rows that were right.
    pub fn sealed(&self) -> u64 {
        self.sealed
    }

    /// Rows at the end that are not sealed yet.
    pub fn unsealed(&self) -> u64 {
        self.unsealed.map_or(0, |(count, _)| count)
    }

    /// The hash of the newest sealed row.
    pub fn head(&self) -> Option<ChainHash> {
        self.prev.filter(|_| self.sealed > 0)
    }

    /// The position of the newest row; 0 before the first.
    pub fn position(&self) -> i64 {
        self.seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Sealed rows 2, 4, 6, 8 of one tenant.
    fn chain() -> Vec<Value> {
        let mut prev = ChainHash::START;
        [2, 4, 6, 8]
            .into_iter()
            .map(|seq| {
                let mut row = json!({"seq": seq, "action": "confirm", "reason": format!("r{seq}"), "device": null});
                let hash = link(prev, row.as_object().unwrap()).unwrap();
                row[PREV_HASH] = prev.to_string().into();
                row[HASH] = hash.to_string().into();
                prev = hash;
                row
            })
            .collect()
    }

    fn check(mut check: ChainCheck, rows: &[Value]) -> Result<ChainCheck, (Option<i64>, Break)> {
        for row in rows {
            check.next(row).map_err(|broken| (broken.seq, broken.what))?;
        }
        Ok(check)
    }

    fn whole(rows: &[Value]) -> Result<ChainCheck, (Option<i64>, Break)> {
        check(ChainCheck::from_start(), rows)
    }

    #[test]
    fn a_hash_is_sha_256_over_the_hash_before_and_the_canonical_row() {
        // (head -c 32 /dev/zero; printf '{"a":"b","seq":1}') | sha256sum
        let row = json!({"seq": 1, "a": "b"});
        let hash = link(ChainHash::START, row.as_object().unwrap()).unwrap();
        assert_eq!(hash.to_string(), "1a1a7722974baf714ea6711846932106b4ead9fa18dc58e5a981107b855e95bc");
        assert_eq!(ChainHash::parse(&hash.to_string()), Some(hash));
        for bad in ["", "0", &"g".repeat(64), &"A".repeat(64), &"0".repeat(63), &"0".repeat(65)] {
            assert_eq!(ChainHash::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_whole_chain_is_whole_from_its_start_and_from_any_row() {
        let rows = chain();
        let done = whole(&rows).unwrap();
        assert_eq!((done.sealed(), done.unsealed(), done.position()), (4, 0, 8));
        assert_eq!(done.head().unwrap().to_string(), rows[3][HASH]);
        assert_eq!(check(ChainCheck::from_anywhere(), &rows[2..]).unwrap().sealed(), 2);
        assert_eq!(whole(&rows[1..]).map(|_| ()), Err((Some(4), Break::Gap)), "the first row is missing");
        assert_eq!(whole(&[]).unwrap().head(), None);
    }

    #[test]
    fn a_changed_member_breaks_the_chain_at_its_row() {
        for (member, value) in
            [("reason", json!("x")), ("seq", json!(5)), ("added", json!(1)), (HASH, json!("0".repeat(64)))]
        {
            let mut rows = chain();
            rows[1][member] = value;
            let expected = if member == "seq" { 5 } else { 4 };
            assert_eq!(whole(&rows).map(|_| ()), Err((Some(expected), Break::Changed)), "{member}");
        }
        let mut rows = chain();
        rows[2].as_object_mut().unwrap().remove("device");
        assert_eq!(whole(&rows).map(|_| ()), Err((Some(6), Break::Changed)));
    }

    #[test]
    fn rows_that_are_removed_moved_or_put_in_are_found() {
        let mut removed = chain();
        removed.remove(1);
        assert_eq!(whole(&removed).map(|_| ()), Err((Some(6), Break::Gap)));
        let mut moved = chain();
        moved.swap(1, 2);
        assert_eq!(whole(&moved).map(|_| ()), Err((Some(6), Break::Gap)));
        let mut twice = chain();
        twice.insert(2, twice[1].clone());
        assert_eq!(whole(&twice).map(|_| ()), Err((Some(4), Break::Order)));
        let mut put_in = chain();
        put_in.insert(1, json!({"seq": 3, "action": "confirm"}));
        assert_eq!(whole(&put_in).map(|_| ()), Err((Some(3), Break::Unsealed)));
        for bad in
            [json!(1), json!({"seq": "1"}), json!({"seq": 9, "hash": 1, "prevHash": 2}), json!({"seq": 9, "hash": "x"})]
        {
            let mut rows = chain();
            rows.push(bad.clone());
            assert_eq!(whole(&rows).map_err(|(_, what)| what).map(|_| ()), Err(Break::Unreadable), "{bad}");
        }
    }

    #[test]
    fn rows_at_the_end_may_wait_for_their_seal() {
        let mut rows = chain();
        rows.push(json!({"seq": 9}));
        rows.push(json!({"seq": 11}));
        let done = whole(&rows).unwrap();
        assert_eq!((done.sealed(), done.unsealed(), done.position()), (4, 2, 11));
    }

    #[test]
    fn rows_of_one_device_are_checked_each_by_itself() {
        let mut rows = chain();
        rows.remove(1);
        assert_eq!(check(ChainCheck::each(), &rows).unwrap().sealed(), 3);
        rows[1]["reason"] = "x".into();
        assert_eq!(check(ChainCheck::each(), &rows).map(|_| ()), Err((Some(6), Break::Changed)));
    }
}
