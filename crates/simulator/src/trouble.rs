//! Why a simulation cannot go on. A claim that is refused is no trouble: it is a result.

use std::fmt;

/// What happened, in words for the person who started the simulation.
#[derive(Debug)]
pub enum Trouble {
    /// Nobody answers at an address, or the connection broke off.
    Unreachable {
        /// What was asked of whom.
        what: String,
        /// The system's or the library's reason.
        why: String,
    },
    /// The server said no to something that the simulation cannot do without.
    Refused {
        /// What was asked for.
        what: String,
        /// HTTP status, or the code of the protocol.
        status: u16,
        /// The server's words.
        said: String,
    },
    /// An answer that the contract does not know.
    Odd {
        /// What was asked of whom.
        what: String,
        /// What came.
        came: String,
    },
}

impl Trouble {
    pub(crate) fn unreachable(what: impl Into<String>, why: impl fmt::Display) -> Self {
        Self::Unreachable { what: what.into(), why: why.to_string() }
    }

    pub(crate) fn odd(what: impl Into<String>, came: impl fmt::Display) -> Self {
        Self::Odd { what: what.into(), came: came.to_string() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { what, why } => write!(f, "{what}: no answer ({why})"),
            Self::Refused { what, status, said } => write!(f, "{what}: refused with {status}: {said}"),
            Self::Odd { what, came } => write!(f, "{what}: an answer outside the contract: {came}"),
        }
    }
}

impl std::error::Error for Trouble {}
