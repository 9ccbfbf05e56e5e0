//! Printing: data on stdout, talk on stderr. The only place that prints.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// How a run ended; the numbers are part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    /// Refused, or an expectation did not hold.
    Refused = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No such thing.
    NotFound = 3,
    /// Not signed in, or not for this account.
    Forbidden = 4,
    /// Something else stands in the way: claimed already, exists already.
    Conflict = 5,
    /// Out of tries; wait.
    RateLimited = 6,
    /// A server or store does not answer.
    Unavailable = 7,
    /// Some of it was done.
    Partly = 8,
    /// Stopped by the user.
    Stopped = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Prints data. A reader that went away (`| head`) is no error.
pub(crate) fn data(text: impl AsRef<str>) {
    let _ = try_data(text);
}

/// The same, for what has no end of its own: when the reader went away it is over.
pub(crate) fn try_data(text: impl AsRef<str>) -> io::Result<()> {
    write_line(&mut io::stdout().lock(), text.as_ref())
}

/// Prints talk: progress, hints, errors.
pub(crate) fn talk(text: impl AsRef<str>) {
    let _ = write_line(&mut io::stderr().lock(), text.as_ref());
}

fn write_line(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    to.write_all(b"\n")?;
    to.flush()
}

/// What happened, why, what next; in the form every error of this program has.
pub(crate) fn error(what: impl AsRef<str>, next: &str) {
    talk(format!("error: {}", what.as_ref()));
    if !next.is_empty() {
        talk(format!("next  {next}"));
    }
}

/// Whether a person watches the progress.
pub(crate) fn watched() -> bool {
    io::stderr().is_terminal()
}

/// A number with a comma between its thousands.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn counts_are_grouped_by_three() {
        for (count, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(count), text);
        }
    }
}
