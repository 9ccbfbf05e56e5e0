//! The strict look at a datagram's raw bytes that comes before anything else.
//!
//! `coap_lite::Packet` accepts most of what RFC 7252 §3 calls a message format error, so nothing reaches it that has not
//! passed here. Allocates nothing.

use super::wire::{Kind, Token};

/// Options in one message; more is a format error here.
pub(crate) const OPTIONS_MAX: usize = 32;

/// The fixed part of a message that is well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Class in the upper three bits, detail in the lower five.
    pub(crate) code: u8,
    pub(crate) message_id: u16,
    pub(crate) token: Token,
}

/// What to do with a datagram that is not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// Nothing; not our version, or nothing one could answer.
    Silently,
    /// A format error, nothing sent back: non-confirmable, or itself an answer.
    Malformed,
    /// A format error in a confirmable message: RST with its id (RFC 7252 §4.2).
    Reset(u16),
}

/// Checks a whole datagram (RFC 7252 §3, §3.1, §4.2, §4.3).
pub(crate) fn check(bytes: &[u8]) -> Result<Head, Rejected> {
    let (head, rest) = fixed_part(bytes)?;
    options(rest).ok_or_else(|| head.rejected())?;
    Ok(head)
}

/// Checks the beginning of a datagram whose end was cut off.
pub(crate) fn check_head(bytes: &[u8]) -> Result<Head, Rejected> {
    fixed_part(bytes).map(|(head, _)| head)
}

impl Head {
    fn rejected(&self) -> Rejected {
        match self.kind {
            Kind::Confirmable => Rejected::Reset(self.message_id),
            Kind::NonConfirmable | Kind::Acknowledgement | Kind::Reset => Rejected::Malformed,
        }
    }

    /// The code's class.
    pub(crate) fn class(&self) -> u8 {
        self.code >> 5
    }
}

/// Header and token; what follows them.
fn fixed_part(bytes: &[u8]) -> Result<(Head, &[u8]), Rejected> {
    let [first, code, id_high, id_low, rest @ ..] = bytes else { return Err(Rejected::Silently) };
    if first >> 6 != 1 {
        return Err(Rejected::Silently);
    }
    let kind = Kind::from_bits(first >> 4);
    let length = usize::from(first & 0x0f);
    let mut head = Head { kind, code: *code, message_id: u16::from_be_bytes([*id_high, *id_low]), token: Token::EMPTY };
    let class_is_reserved = matches!(head.class(), 1 | 3 | 6 | 7);
    let empty_with_more = *code == 0 && (length > 0 || !rest.is_empty());
    let token = if length <= Token::MAX { rest.get(..length) } else { None };
    match token {
        Some(token) if !class_is_reserved && !empty_with_more => {
            head.token = Token::new(token);
            Ok((head, &rest[length..]))
        }
        _ => Err(head.rejected()),
    }
}

/// Walks options and payload marker; `None` on a format error.
fn options(mut rest: &[u8]) -> Option<()> {
    let mut number = 0u32;
    let mut count = 0;
    while let [first, tail @ ..] = rest {
        if *first == 0xff {
            // A marker without a payload is a format error (§3).
            return if tail.is_empty() { None } else { Some(()) };
        }
        count += 1;
        if count > OPTIONS_MAX {
            return None;
        }
        let (delta, tail) = extended(first >> 4, tail)?;
        let (length, tail) = extended(first & 0x0f, tail)?;
        number += delta;
        if number > u32::from(u16::MAX) {
            return None;
        }
        rest = tail.get(length as usize..)?;
    }
    Some(())
}

/// A delta or length nibble with its extension bytes (§3.1).
pub(super) fn extended(nibble: u8, tail: &[u8]) -> Option<(u32, &[u8])> {
    match (nibble, tail) {
        (0..=12, _) => Some((u32::from(nibble), tail)),
        (13, [byte, tail @ ..]) => Some((u32::from(*byte) + 13, tail)),
        (14, [high, low, tail @ ..]) => Some((u32::from(u16::from_be_bytes([*high, *low])) + 269, tail)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET: Result<Head, Rejected> = Err(Rejected::Reset(0x1234));

    #[test]
    fn what_is_not_version_one_or_has_no_whole_header_is_dropped() {
        for bytes in [&b""[..], b"\x40", b"\x40\x01\x12", b"\x00\x01\x12\x34", b"\x80\x01\x12\x34", b"\xc0\x01\x12\x34"]
        {
            assert_eq!(check(bytes), Err(Rejected::Silently), "{bytes:x?}");
        }
    }

    #[test]
    fn each_format_error_resets_a_confirmable_message_and_only_that() {
        let long_option = [&b"\x40\x01\x12\x34\x0e\xff\xff"[..], &[0; 70]].concat();
        let sum = b"\x40\x01\x12\x34\xe0\xfe\xf2\x10\x10".to_vec();
        let many = [&b"\x40\x01\x12\x34"[..], &[0x10; 33]].concat();
        let errors: [(&str, Vec<u8>); 13] = [
            ("token length 9", [&b"\x49\x01\x12\x34"[..], &[0; 9]].concat()),
            ("token length 15", [&b"\x4f\x01\x12\x34"[..], &[0; 15]].concat()),
            ("token cut off", b"\x44\x01\x12\x34abc".to_vec()),
            ("class 1", b"\x40\x21\x12\x34".to_vec()),
            ("class 3", b"\x40\x61\x12\x34".to_vec()),
            ("class 7", b"\x40\xe1\x12\x34".to_vec()),
            ("empty with a token", b"\x41\x00\x12\x34a".to_vec()),
            ("empty with more", b"\x40\x00\x12\x34\xb1a".to_vec()),
            ("marker without payload", b"\x40\x01\x12\x34\xff".to_vec()),
            ("delta 15", b"\x40\x01\x12\x34\xf1a".to_vec()),
            ("length past the end", long_option),
            ("numbers beyond 65535", sum),
            ("33 options", many),
        ];
        for (what, mut bytes) in errors {
            assert_eq!(check(&bytes), RESET, "{what}");
            for kind in [0x10, 0x20, 0x30] {
                bytes[0] = bytes[0] & 0xcf | kind;
                assert_eq!(check(&bytes), Err(Rejected::Malformed), "{what}, kind {kind:x}");
            }
        }
        for extension_cut_off in [&b"\xd0"[..], b"\x0d", b"\xe0\x01", b"\x0e\x01", b"\x1f"] {
            let bytes = [&b"\x40\x01\x12\x34"[..], extension_cut_off].concat();
            assert_eq!(check(&bytes), RESET, "{extension_cut_off:x?}");
        }
    }

    #[test]
    fn the_bounds_themselves_pass() {
        assert!(check(&[&b"\x48\x01\x12\x34"[..], &[7; 8]].concat()).is_ok());
        assert!(check(&[&b"\x40\x01\x12\x34"[..], &[0x10; 32]].concat()).is_ok());
        // 269 + 0xfef2 = 65,535.
        assert!(check(b"\x40\x01\x12\x34\xe0\xfe\xf2").is_ok());
        assert!(check(b"\x40\x00\x12\x34").is_ok());
        let head = check(b"\x52\x02\xff\xfeab\xb3api\xffx").unwrap();
        assert_eq!((head.kind, head.code, head.message_id), (Kind::NonConfirmable, 2, 0xfffe));
        assert_eq!(head.token.as_bytes(), b"ab");
    }
}
