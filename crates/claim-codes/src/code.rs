//! Claim codes: what may be stored, what opens it, what is generated.
//!
//! A code is stored as its maker gave it. Comparing is the domain's work, by digest; here is the rule which text is
//! digested.

use std::borrow::Cow;
use std::fmt;

use claim::Secret;
use zeroize::Zeroizing;

use crate::check::check_symbol;

/// The longest code, in characters (all of them one byte).
pub const CODE_CHARACTERS: usize = 32;
/// Below this a code can be guessed by machines; it is taken with a warning.
pub const STRONG_CHARACTERS: usize = 8;
/// Crockford's base32: no I, L, O, U.
pub(crate) const BASE32: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A claim code as it may be stored: 1 to 32 of `A-Z a-z 0-9`. What The Things Stack calls a claim authentication code.
#[derive(Debug)]
pub struct ClaimCode(Secret<String>);

/// Why a text cannot be a claim code. Says where, never what: it may be half of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeFault {
    /// Nothing there.
    Empty,
    /// More than [`CODE_CHARACTERS`].
    TooLong,
    /// Something else than a letter or digit, at this character (from 1).
    Character(usize),
    /// Anybody would try it: one character over and over, or the device's own name, id, EUI or serial number.
    Trivial,
}

impl CodeFault {
    /// The fault's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trivial => "code_trivial",
            Self::Empty | Self::TooLong | Self::Character(_) => "claim_authentication_code",
        }
    }
}

impl fmt::Display for CodeFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a code has at least one character"),
            Self::TooLong => write!(f, "a code has at most {CODE_CHARACTERS} characters"),
            Self::Character(at) => write!(f, "character {at} is none of A-Z, a-z, 0-9"),
            Self::Trivial => f.write_str("the code repeats one character, or what is printed on the device anyway"),
        }
    }
}

impl std::error::Error for CodeFault {}

/// How codes are generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// 16 of Crockford's base32, 80 bits.
    #[default]
    Base32,
    /// The same with a check symbol in the last place, 75 bits: [`looks_mistyped`](crate::check::looks_mistyped).
    Base32Check,
    /// 8 upper-case hex digits as The Things Stack generates; 32 bits.
    Hex8,
}

impl Style {
    /// The style of this name: `base32` or `hex8`.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "base32" => Some(Self::Base32),
            "hex8" => Some(Self::Hex8),
            _ => None,
        }
    }

    /// This style where codes are made with a check symbol; 8 hex digits never have one.
    pub fn with_check_symbol(self) -> Self {
        match self {
            Self::Base32 | Self::Base32Check => Self::Base32Check,
            Self::Hex8 => Self::Hex8,
        }
    }

    /// What its user should know.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Base32 | Self::Base32Check => None,
            Self::Hex8 => Some("a code of 8 hex digits has 32 bits only"),
        }
    }
}

impl ClaimCode {
    /// Checks the form of a code.
    pub fn parse(text: &str) -> Result<Self, CodeFault> {
        if text.is_empty() {
            return Err(CodeFault::Empty);
        }
        if let Some(at) = text.chars().position(|c| !c.is_ascii_alphanumeric()) {
            return Err(CodeFault::Character(at + 1));
        }
        if text.len() > CODE_CHARACTERS {
            return Err(CodeFault::TooLong);
        }
        Ok(Self(Secret::new(text.to_owned())))
    }

    /// Checks a code that its maker chose for a device which these texts (name, id, EUIs, serial number) are printed on.
    pub fn chosen(text: &str, printed: &[&str]) -> Result<Self, CodeFault> {
        let code = Self::parse(text)?;
        let first = text.as_bytes().first();
        let repeats = text.len() >= 3 && text.bytes().all(|byte| Some(&byte) == first);
        if repeats || printed.iter().any(|printed| printed.eq_ignore_ascii_case(text)) {
            return Err(CodeFault::Trivial);
        }
        Ok(code)
    }

    /// A code made of 80 random bits (`Base32Check` uses the first 75, `Hex8` the first 32).
    pub fn generated(style: Style, random: &[u8; 10]) -> Self {
        let mut symbols = Zeroizing::new([0; 16]);
        for (eight, five) in symbols.chunks_exact_mut(8).zip(random.chunks_exact(5)) {
            let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
            for (symbol, shift) in eight.iter_mut().zip([35, 30, 25, 20, 15, 10, 5, 0]) {
                *symbol = (bits >> shift & 31) as u8;
            }
        }
        let letter = |symbol: u8| char::from(BASE32[usize::from(symbol)]);
        let mut text = String::with_capacity(16);
        match style {
            Style::Base32 => text.extend(symbols.iter().copied().map(letter)),
            Style::Base32Check => {
                let [before @ .., _] = &*symbols;
                text.extend(before.iter().copied().chain([check_symbol(before)]).map(letter));
            }
            Style::Hex8 => text.extend(random[..4].iter().flat_map(|byte| [byte >> 4, byte & 15]).map(letter)),
        }
        Self(Secret::new(text))
    }

    /// The code itself; keep the borrow short.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// Whether it is short enough to be guessed by machines.
    pub fn is_weak(&self) -> bool {
        self.expose().len() < STRONG_CHARACTERS
    }

    /// Whether it has no lower-case letter: then it is opened in any letter case.
    pub fn all_upper(&self) -> bool {
        !self.expose().bytes().any(|byte| byte.is_ascii_lowercase())
    }

    /// As it is shown to people: in groups of four, if it has the length of a generated one.
    pub fn grouped(&self) -> Zeroizing<String> {
        let text = self.expose();
        let mut shown = Zeroizing::new(String::with_capacity(text.len() + text.len() / 4));
        let group = matches!(text.len(), 8 | 16);
        for (at, letter) in text.chars().enumerate() {
            if group && at > 0 && at % 4 == 0 {
                shown.push('-');
            }
            shown.push(letter);
        }
        shown
    }
}

/// What is compared with a stored code: the text as it was shown, in upper case (ASCII) if the stored code has no
/// lower-case letter. So `abcd` opens `ABCD`, never the reverse.
pub fn as_compared(shown: &str, stored_all_upper: bool) -> Cow<'_, str> {
    if stored_all_upper && shown.bytes().any(|byte| byte.is_ascii_lowercase()) {
        Cow::Owned(shown.to_ascii_uppercase())
    } else {
        Cow::Borrowed(shown)
    }
}

/// What a person typed, without the grouping of a generated code (4-4-4-4 or 4-4, by spaces or hyphens). Anything else
/// stays as typed: other secrets may have spaces and hyphens of their own. For pages and command lines; APIs strip nothing.
pub fn ungrouped(typed: &str) -> Cow<'_, str> {
    let typed = typed.trim();
    let groups: Vec<&str> = typed.split([' ', '-']).collect();
    let like_generated = matches!(groups.len(), 2 | 4)
        && groups.iter().all(|group| group.len() == 4 && group.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if like_generated { Cow::Owned(groups.concat()) } else { Cow::Borrowed(typed) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_1_to_32_letters_and_digits() {
        for good in ["A", "abcXYZ019", &"x1".repeat(16)] {
            assert_eq!(ClaimCode::parse(good).map(|code| code.expose().to_owned()), Ok(good.to_owned()));
        }
        let bad = |text: &str| ClaimCode::parse(text).map(drop).unwrap_err();
        assert_eq!(bad(""), CodeFault::Empty);
        assert_eq!(bad(&"x".repeat(33)), CodeFault::TooLong);
        assert_eq!(bad("AB-CD"), CodeFault::Character(3));
        assert_eq!(bad("AB CD"), CodeFault::Character(3));
        assert_eq!(bad("ÄBCD"), CodeFault::Character(1));
    }

    #[test]
    fn a_trivial_code_is_refused_when_it_is_set() {
        let printed = ["pump-7", "0004A30B001C0530", "SN1"];
        for trivial in ["AAA", "000000", "0004a30b001c0530", "sn1"] {
            assert_eq!(ClaimCode::chosen(trivial, &printed).map(drop), Err(CodeFault::Trivial), "{trivial}");
        }
        for good in ["AA", "A", "AAB", "0004A30B001C0531"] {
            assert!(ClaimCode::chosen(good, &printed).is_ok(), "{good}");
        }
    }

    #[test]
    fn short_codes_are_weak() {
        assert!(ClaimCode::parse("ABCDEFG").unwrap().is_weak());
        assert!(!ClaimCode::parse("ABCDEFGH").unwrap().is_weak());
    }

    #[test]
    fn generated_codes_spell_their_random_bits() {
        let generated = |style, random| ClaimCode::generated(style, random).expose().to_owned();
        assert_eq!(generated(Style::Base32, &[0; 10]), "0".repeat(16));
        assert_eq!(generated(Style::Base32, &[255; 10]), "Z".repeat(16));
        assert_eq!(generated(Style::Base32, &[0, 0, 0, 0, 1, 0x08, 0, 0, 0, 0]), "0000000110000000");
        assert_eq!(generated(Style::Base32Check, &[0, 0, 0, 0, 1, 0x08, 0, 0, 0, 0x1f]), "000000011000000S");
        assert_eq!(generated(Style::Hex8, &[0xbe, 0xef, 0x12, 0x34, 9, 9, 9, 9, 9, 9]), "BEEF1234");
    }

    #[test]
    fn a_check_symbol_is_for_long_codes() {
        assert_eq!(Style::Base32.with_check_symbol(), Style::Base32Check);
        assert_eq!(Style::Hex8.with_check_symbol(), Style::Hex8);
    }

    #[test]
    fn lower_case_opens_an_upper_case_code_and_never_the_reverse() {
        let all_upper = |text: &str| ClaimCode::parse(text).unwrap().all_upper();
        assert!(all_upper("ABCD") && all_upper("1234") && !all_upper("ABCd"));
        assert_eq!(as_compared("abcd", all_upper("ABCD")), "ABCD");
        assert_eq!(as_compared("ABCD", all_upper("abcd")), "ABCD");
        assert_eq!(as_compared("abcd", all_upper("abCd")), "abcd");
        assert_eq!(as_compared("ä0", true), "ä0", "ASCII only, and no O for 0");
    }

    #[test]
    fn only_the_grouping_of_a_generated_code_is_undone() {
        for (typed, meant) in [
            ("K7QM-2VXD-0000-ZZZZ", "K7QM2VXD0000ZZZZ"),
            (" k7qm 2vxd 0000 zzzz ", "k7qm2vxd0000zzzz"),
            ("BEEF-1234", "BEEF1234"),
            ("BEEF-123", "BEEF-123"),
            ("my-secret-word-x", "my-secret-word-x"),
            ("ABCD", "ABCD"),
            ("ABCD-EFGH-IJKL", "ABCD-EFGH-IJKL"),
            ("AB_D-EFGH", "AB_D-EFGH"),
        ] {
            assert_eq!(ungrouped(typed), meant);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_in_groups_is_read_back(random: [u8; 10]) {
            for style in [Style::Base32, Style::Base32Check, Style::Hex8] {
                let code = ClaimCode::generated(style, &random);
                let shown = code.grouped();
                prop_assert_eq!(ungrouped(&shown), code.expose());
                prop_assert!(code.all_upper() && ClaimCode::parse(code.expose()).is_ok());
            }
        }
    }
}
