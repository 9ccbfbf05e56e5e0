//! The check symbol of a generated code: tells a person who mistyped it before a try is spent. It protects against slips,
//! not against guesses.
//!
//! Symbols are elements of GF(32), x^5 + x^2 + 1. The symbols' sum, each weighted with a power of x of its own, is zero. The
//! 16 weights differ and none is zero: so one wrong symbol changes the sum, and so does a swap of two unequal ones, wherever
//! they stand.

use crate::code::{BASE32, Style};

/// The symbols of a code that has a check symbol, the check included.
const SYMBOLS: usize = 16;
/// x^5, reduced.
const X5: u8 = 0b00101;

/// The symbol that belongs behind these. All are indices in the alphabet, below 32.
pub(crate) fn check_symbol(symbols: &[u8; SYMBOLS - 1]) -> u8 {
    weighted(symbols)
}

/// Whether a person most likely mistyped a code: 16 characters, of which one is none of the alphabet or, where codes are
/// made with a check symbol (`style`), the last does not fit the others. `typed` is without its grouping
/// ([`ungrouped`](crate::code::ungrouped)); letter case does not count. To be said before a try is spent, and never to block
/// one: a maker may have chosen any code.
pub fn looks_mistyped(typed: &str, style: Style) -> bool {
    if typed.chars().count() != SYMBOLS {
        return false;
    }
    let symbols: Option<Vec<u8>> = typed.chars().map(symbol).collect();
    match (symbols.as_deref(), style) {
        (None, _) => true,
        (Some([before @ .., check]), Style::Base32Check) => weighted(before) != *check,
        (Some(_), _) => false,
    }
}

fn symbol(typed: char) -> Option<u8> {
    let upper = typed.to_ascii_uppercase();
    BASE32.iter().position(|symbol| char::from(*symbol) == upper).map(|at| at as u8)
}

/// The sum of all symbols: the last one times x, the one before it times x^2, and so on.
fn weighted(symbols: &[u8]) -> u8 {
    symbols.iter().fold(0, |sum, symbol| times_x(sum ^ symbol))
}

fn times_x(element: u8) -> u8 {
    let overflows = element & 0b10000 != 0;
    (element << 1 & 0b11111) ^ if overflows { X5 } else { 0 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::ClaimCode;

    /// Whether 16 symbols, the last of them their check, would be found to be right.
    fn fits(symbols: &[u8; SYMBOLS]) -> bool {
        let text: String = symbols.iter().map(|symbol| char::from(BASE32[usize::from(*symbol)])).collect();
        !looks_mistyped(&text, Style::Base32Check)
    }

    /// The code of 15 symbols, with its check.
    fn checked(symbols: &[u8; SYMBOLS - 1]) -> [u8; SYMBOLS] {
        let mut code = [check_symbol(symbols); SYMBOLS];
        code[..SYMBOLS - 1].copy_from_slice(symbols);
        code
    }

    /// A code with `a` at one place and `b` at another (the check makes up for it if it is neither of them), else random.
    fn with_pair(places: (usize, usize), pair: (u8, u8), mut rest: [u8; SYMBOLS - 1]) -> Option<[u8; SYMBOLS]> {
        let (first, second) = places;
        rest[first] = pair.0;
        if second < SYMBOLS - 1 {
            rest[second] = pair.1;
            return Some(checked(&rest));
        }
        // The last place is the check: turn another symbol until it is as wanted.
        let turned = usize::from(first == 0);
        (0..32).find_map(|symbol| {
            rest[turned] = symbol;
            let code = checked(&rest);
            (code[SYMBOLS - 1] == pair.1).then_some(code)
        })
    }

    const REST: [u8; SYMBOLS - 1] = [17, 3, 30, 9, 0, 31, 12, 5, 22, 8, 27, 1, 14, 19, 6];

    #[test]
    fn the_sixteen_weights_differ_and_none_is_zero() {
        let weights: BTreeSet<u8> =
            (0..SYMBOLS).map(|power| (0..power).fold(1, |element, _| times_x(element))).collect();
        assert_eq!(weights.len(), SYMBOLS);
        assert!(!weights.contains(&0));
        let all: BTreeSet<u8> = (0..31).map(|power| (0..power).fold(1, |element, _| times_x(element))).collect();
        assert_eq!(all, (1..32).collect(), "x generates the whole group");
    }

    #[test]
    fn every_single_wrong_symbol_is_caught() {
        // The sum is linear: an error is caught or not whatever the other symbols are. The property below tries others.
        for symbol in 0..32 {
            let code = checked(&std::array::from_fn(|at| if at % 2 == 0 { symbol } else { REST[at] }));
            assert!(fits(&code));
            for place in 0..SYMBOLS {
                for wrong in (0..32).filter(|wrong| *wrong != code[place]) {
                    let mut typed = code;
                    typed[place] = wrong;
                    assert!(!fits(&typed), "{wrong} for {} at {place}", code[place]);
                }
            }
        }
    }

    #[test]
    fn every_swap_of_two_symbols_is_caught_wherever_they_stand() {
        let mut swaps = 0;
        for first in 0..SYMBOLS {
            for second in first + 1..SYMBOLS {
                for a in 0..32 {
                    for b in (0..32).filter(|b| *b != a) {
                        let code = with_pair((first, second), (a, b), REST).expect("such a code");
                        assert!(fits(&code) && (code[first], code[second]) == (a, b));
                        let mut typed = code;
                        typed.swap(first, second);
                        assert!(!fits(&typed), "{a} at {first} and {b} at {second}");
                        swaps += 1;
                    }
                }
            }
        }
        assert_eq!(swaps, 120 * 32 * 31);
    }

    #[test]
    fn only_what_has_sixteen_characters_can_look_mistyped() {
        for fine in ["", "BEEF1234", "my-secret-word-x-y", "K7QM2VXD0000ZZZ"] {
            assert!(!looks_mistyped(fine, Style::Base32Check), "{fine}");
        }
        for (typed, base32, checked) in [
            ("0000000000000000", false, false),
            ("0000000000000001", false, true),
            ("K7QM2VXD0000ZZZP", false, false),
            ("K7QM2VXD0000ZZZQ", false, true),
            ("K7QM2VXD0000ZZZO", true, true),
            ("k7qm2vxd0000zzzl", true, true),
            ("K7QM2VXD0000ZZZ-", true, true),
            ("K7QM2VXD0000ZZZ\u{c4}", true, true),
        ] {
            assert_eq!(looks_mistyped(typed, Style::Base32), base32, "{typed}");
            assert_eq!(looks_mistyped(typed, Style::Hex8), base32, "{typed}");
            assert_eq!(looks_mistyped(typed, Style::Base32Check), checked, "{typed}");
        }
    }

    proptest! {
        #[test]
        fn generated_codes_pass_in_either_letter_case_and_no_slip_does(
            random: [u8; 10], place in 0..SYMBOLS, other in 0..SYMBOLS, by in 1u8..32,
        ) {
            let code = ClaimCode::generated(Style::Base32Check, &random);
            prop_assert!(!looks_mistyped(code.expose(), Style::Base32Check));
            prop_assert!(!looks_mistyped(&code.expose().to_lowercase(), Style::Base32Check));
            let symbols: Vec<u8> = code.expose().chars().map(|typed| symbol(typed).unwrap()).collect();
            let symbols: [u8; SYMBOLS] = symbols.try_into().unwrap();
            let mut wrong = symbols;
            wrong[place] ^= by;
            prop_assert!(!fits(&wrong));
            let mut swapped = symbols;
            swapped.swap(place, other);
            prop_assert_eq!(fits(&swapped), symbols[place] == symbols[other]);
        }
    }
}
