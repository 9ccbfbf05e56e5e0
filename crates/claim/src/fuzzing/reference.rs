//! Slow readers of claim bodies, written from RFC 8259, the protobuf wire format and thingsboard.md 2.3 alone: they build
//! whole trees and share nothing with the parsers but the check of a device name.

use crate::device::DeviceName;

/// A claim as read; texts owned, numbers exact.
#[derive(Debug, Default)]
pub(super) struct Claim {
    pub(super) secret: String,
    pub(super) duration: Option<i64>,
    /// Whether the number had a fraction or an exponent.
    pub(super) rounded: bool,
}

/// A reading, or groups nested so deep that decoders may differ.
pub(super) enum Reading<T> {
    Sure(T),
    TooDeepToSay,
}

pub(super) type Entries = Vec<(String, Result<Claim, ()>)>;

enum Value {
    Null,
    Truth(bool),
    /// As written.
    Number(String),
    /// `None`: it has half a surrogate pair, which no text can hold.
    Text(Option<String>),
    List,
    Object(Vec<(Option<String>, Value)>),
}

const DEPTH: usize = 16;

pub(super) fn json_claim(bytes: &[u8]) -> Result<Claim, ()> {
    claim(&object(bytes)?)
}

pub(super) fn json_batch(bytes: &[u8]) -> Result<Entries, ()> {
    let members = object(bytes)?;
    let names: Vec<DeviceName> = members.iter().filter_map(|(name, _)| DeviceName::parse(name).ok()).collect();
    if members.is_empty() || twice(names.iter().map(DeviceName::as_str)) {
        return Err(());
    }
    let entries = members.into_iter().map(|(name, value)| {
        let entry = match value {
            Value::Object(members) => named(members).and_then(|members| claim(&members)),
            _ => Err(()),
        };
        (name, entry)
    });
    Ok(entries.collect())
}

fn twice<'a>(names: impl Iterator<Item = &'a str>) -> bool {
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

fn object(bytes: &[u8]) -> Result<Vec<(String, Value)>, ()> {
    let text: Vec<char> = std::str::from_utf8(bytes).map_err(|_| ())?.chars().collect();
    let mut reader = Reader { text: &text, at: 0 };
    let value = reader.value(0)?;
    reader.space();
    match value {
        Value::Object(members) if reader.at == text.len() => named(members),
        _ => Err(()),
    }
}

fn named(members: Vec<(Option<String>, Value)>) -> Result<Vec<(String, Value)>, ()> {
    let members: Vec<(String, Value)> =
        members.into_iter().map(|(name, value)| name.map(|name| (name, value)).ok_or(())).collect::<Result<_, ()>>()?;
    if twice(members.iter().map(|(name, _)| name.as_str())) { Err(()) } else { Ok(members) }
}

fn claim(members: &[(String, Value)]) -> Result<Claim, ()> {
    let mut claim = Claim::default();
    for (name, value) in members {
        match (name.as_str(), value) {
            ("secretKey" | "durationMs", Value::Null) => {}
            ("secretKey", Value::Truth(truth)) => claim.secret = truth.to_string(),
            ("secretKey", Value::Number(text) | Value::Text(Some(text))) => claim.secret.clone_from(text),
            ("durationMs", Value::Number(text)) => {
                claim.duration = Some(cut(text));
                claim.rounded = text.contains(['.', 'e', 'E']);
            }
            ("durationMs", Value::Text(Some(text))) => {
                let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
                if digits.is_empty() || digits.contains(|c: char| !c.is_ascii_digit()) {
                    return Err(());
                }
                claim.duration = Some(cut(text));
            }
            ("secretKey" | "durationMs", _) => return Err(()),
            _ => {}
        }
    }
    secret_is_good(&claim.secret)?;
    Ok(claim)
}

fn secret_is_good(secret: &str) -> Result<(), ()> {
    if secret.len() > 256 || secret.contains('\0') { Err(()) } else { Ok(()) }
}

/// A decimal number cut towards zero, digit by digit, and clamped.
fn cut(text: &str) -> i64 {
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let exponent = exponent.strip_prefix('+').unwrap_or(exponent);
    let exponent =
        exponent.parse::<i64>().unwrap_or(if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 });
    let all: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|digit| digit - b'0').collect();
    let point = whole.len() as i64 + exponent;
    let mut value = 0_i128;
    if all.iter().any(|digit| *digit != 0) {
        let leading = all.iter().take_while(|digit| **digit == 0).count();
        for place in leading as i64..point {
            let digit = usize::try_from(place).ok().and_then(|place| all.get(place)).copied().unwrap_or(0);
            value = value * 10 + i128::from(digit);
            if value > i128::from(u64::MAX) {
                break;
            }
        }
    }
    let value = if negative { -value } else { value };
    value.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

struct Reader<'a> {
    text: &'a [char],
    at: usize,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<char, ()> {
        let c = self.text.get(self.at).copied().ok_or(())?;
        self.at += 1;
        Ok(c)
    }

    fn peek(&self) -> Option<char> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, ()> {
        for expected in word.chars() {
            if self.next()? != expected {
                return Err(());
            }
        }
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Value, ()> {
        self.space();
        match self.peek().ok_or(())? {
            'n' => self.word("null", Value::Null),
            't' => self.word("true", Value::Truth(true)),
            'f' => self.word("false", Value::Truth(false)),
            '"' => self.string().map(Value::Text),
            '[' | '{' if depth >= DEPTH => Err(()),
            '[' => self.list(depth + 1),
            '{' => self.members(depth + 1),
            _ => self.number(),
        }
    }

    /// Whether the bracket closes here; else a comma is owed, unless this is the first item.
    fn closes(&mut self, bracket: char, first: bool) -> Result<bool, ()> {
        self.space();
        if self.peek() == Some(bracket) {
            self.at += 1;
            return Ok(true);
        }
        if !first && self.next()? != ',' {
            return Err(());
        }
        Ok(false)
    }

    fn list(&mut self, depth: usize) -> Result<Value, ()> {
        self.at += 1;
        let mut first = true;
        while !self.closes(']', first)? {
            self.value(depth)?;
            first = false;
        }
        Ok(Value::List)
    }

    fn members(&mut self, depth: usize) -> Result<Value, ()> {
        self.at += 1;
        let mut members = Vec::new();
        while !self.closes('}', members.is_empty())? {
            self.space();
            if self.peek() != Some('"') {
                return Err(());
            }
            let name = self.string()?;
            self.space();
            if self.next()? != ':' {
                return Err(());
            }
            members.push((name, self.value(depth)?));
        }
        Ok(Value::Object(members))
    }

    fn string(&mut self) -> Result<Option<String>, ()> {
        self.at += 1;
        let mut units: Vec<u16> = Vec::new();
        loop {
            match self.next()? {
                '"' => return Ok(String::from_utf16(&units).ok()),
                '\\' => units.push(self.escape()?),
                c if c < ' ' => return Err(()),
                c => units.extend_from_slice(c.encode_utf16(&mut [0; 2])),
            }
        }
    }

    fn escape(&mut self) -> Result<u16, ()> {
        Ok(match self.next()? {
            c @ ('"' | '\\' | '/') => c as u16,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'u' => {
                let mut unit = 0;
                for _ in 0..4 {
                    unit = unit << 4 | self.next()?.to_digit(16).ok_or(())? as u16;
                }
                unit
            }
            _ => return Err(()),
        })
    }

    fn digits(&mut self) -> Result<(), ()> {
        let start = self.at;
        while self.peek().is_some_and(|c| c.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(()) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Value, ()> {
        let start = self.at;
        if self.peek() == Some('-') {
            self.at += 1;
        }
        if self.peek() == Some('0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some('.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some('e' | 'E')) {
            self.at += 1;
            if matches!(self.peek(), Some('+' | '-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(Value::Number(self.text[start..self.at].iter().collect()))
    }
}

/// A field of a protobuf message.
enum Field<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    Other,
}

/// Why a message was not read.
enum Fault {
    Broken,
    TooDeepToSay,
}

/// Groups in groups that every decoder takes.
const GROUPS: usize = 90;

fn sure<T>(read: Result<T, Fault>) -> Reading<Result<T, ()>> {
    match read {
        Ok(value) => Reading::Sure(Ok(value)),
        Err(Fault::Broken) => Reading::Sure(Err(())),
        Err(Fault::TooDeepToSay) => Reading::TooDeepToSay,
    }
}

pub(super) fn protobuf_claim(bytes: &[u8]) -> Reading<Result<Claim, ()>> {
    let mut raw = Raw::default();
    sure(raw.merge(bytes).and_then(|()| raw.lower().map_err(|()| Fault::Broken)))
}

pub(super) fn protobuf_batch(bytes: &[u8]) -> Reading<Result<Entries, ()>> {
    sure(entries(bytes))
}

fn entries(bytes: &[u8]) -> Result<Entries, Fault> {
    let mut entries = Vec::new();
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => entries.push(entry(bytes)?),
            (1, _) => return Err(Fault::Broken),
            _ => {}
        }
    }
    let names: Vec<DeviceName> = entries.iter().filter_map(|(name, _)| DeviceName::parse(name).ok()).collect();
    if entries.is_empty() || twice(names.iter().map(DeviceName::as_str)) { Err(Fault::Broken) } else { Ok(entries) }
}

fn entry(bytes: &[u8]) -> Result<(String, Result<Claim, ()>), Fault> {
    let (mut name, mut raw) = (String::new(), Raw::default());
    for (number, field) in fields(bytes)? {
        match (number, field) {
            (1, Field::Bytes(bytes)) => name = utf8(bytes)?,
            // A message that comes twice is one message (protobuf, "last one wins" field by field).
            (2, Field::Bytes(bytes)) => raw.merge(bytes)?,
            (1 | 2, _) => return Err(Fault::Broken),
            _ => {}
        }
    }
    Ok((name, raw.lower()))
}

#[derive(Default)]
struct Raw {
    secret: String,
    duration: i64,
}

impl Raw {
    fn merge(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for (number, field) in fields(bytes)? {
            match (number, field) {
                (1, Field::Bytes(bytes)) => self.secret = utf8(bytes)?,
                (2, Field::Varint(value)) => self.duration = value as i64,
                (1 | 2, _) => return Err(Fault::Broken),
                _ => {}
            }
        }
        Ok(())
    }

    fn lower(self) -> Result<Claim, ()> {
        secret_is_good(&self.secret)?;
        Ok(Claim { secret: self.secret, duration: Some(self.duration).filter(|ms| *ms != 0), rounded: false })
    }
}

fn utf8(bytes: &[u8]) -> Result<String, Fault> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Fault::Broken)
}

fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Field<'_>)>, Fault> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (number, field, ended) = field(&mut bytes, 0)?;
        if ended {
            return Err(Fault::Broken);
        }
        fields.push((number, field));
    }
    Ok(fields)
}

/// One field, and whether it is the end of a group.
fn field<'a>(bytes: &mut &'a [u8], groups: usize) -> Result<(u64, Field<'a>, bool), Fault> {
    let key = varint(bytes)?;
    let number = key >> 3;
    if key > u64::from(u32::MAX) || number == 0 {
        return Err(Fault::Broken);
    }
    let field = match key & 7 {
        0 => Field::Varint(varint(bytes)?),
        1 => {
            take(bytes, 8)?;
            Field::Other
        }
        2 => {
            let length = varint(bytes)?;
            Field::Bytes(take(bytes, length)?)
        }
        3 => {
            if groups >= GROUPS {
                return Err(Fault::TooDeepToSay);
            }
            loop {
                let (inner, _, ended) = self::field(bytes, groups + 1)?;
                match ended {
                    true if inner == number => break,
                    true => return Err(Fault::Broken),
                    false => {}
                }
            }
            Field::Other
        }
        4 => return Ok((number, Field::Other, true)),
        5 => {
            take(bytes, 4)?;
            Field::Other
        }
        _ => return Err(Fault::Broken),
    };
    Ok((number, field, false))
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Fault> {
    let length = usize::try_from(length).map_err(|_| Fault::Broken)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Fault::Broken)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Fault> {
    let mut value = 0_u128;
    for place in 0..10 {
        let byte = take(bytes, 1)?[0];
        value |= u128::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return u64::try_from(value).map_err(|_| Fault::Broken);
        }
    }
    Err(Fault::Broken)
}
