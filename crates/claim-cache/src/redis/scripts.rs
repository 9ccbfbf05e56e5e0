//! The scripts, each one atomic change. What one of them touches is in one slot: a claim alone, or keys of the one hash tag.

use std::sync::OnceLock;

use redis::{Cmd, Pipeline};

/// A script and the digest by which it is called.
pub(super) struct Known {
    code: &'static str,
    digest: OnceLock<String>,
}

pub(super) static RECORD: Known = Known::new(include_str!("scripts/record.lua"));
pub(super) static CONSUME: Known = Known::new(include_str!("scripts/consume.lua"));
pub(super) static WITHDRAW: Known = Known::new(include_str!("scripts/withdraw.lua"));
pub(super) static ALLOWED: Known = Known::new(include_str!("scripts/allowed.lua"));
pub(super) static HOLD: Known = Known::new(include_str!("scripts/hold.lua"));
pub(super) static COUNT: Known = Known::new(include_str!("scripts/count.lua"));
pub(super) static CLOSE: Known = Known::new(include_str!("scripts/close.lua"));
pub(super) static THIN: Known = Known::new(include_str!("scripts/thin.lua"));
pub(super) static RESERVE: Known = Known::new(include_str!("scripts/reserve.lua"));
pub(super) static REFUND: Known = Known::new(include_str!("scripts/refund.lua"));
pub(super) static FORGIVE: Known = Known::new(include_str!("scripts/forgive.lua"));
pub(super) static RESTORE: Known = Known::new(include_str!("scripts/restore.lua"));
pub(super) static MARK: Known = Known::new(include_str!("scripts/mark.lua"));

const ALL: [&Known; 13] = [
    &RECORD, &CONSUME, &WITHDRAW, &HOLD, &COUNT, &CLOSE, &THIN, &RESERVE, &REFUND, &FORGIVE, &RESTORE, &MARK, &ALLOWED,
];

impl Known {
    const fn new(code: &'static str) -> Self {
        Self { code, digest: OnceLock::new() }
    }

    /// A call by digest, still without its arguments. A server that has not loaded it answers NOSCRIPT and does nothing.
    pub(super) fn call(&self, keys: &[&[u8]]) -> Cmd {
        let digest = self.digest.get_or_init(|| redis::Script::new(self.code).get_hash().to_owned());
        let mut command = redis::cmd("EVALSHA");
        command.arg(digest).arg(keys.len());
        for key in keys {
            command.arg(*key);
        }
        command
    }
}

/// The commands that load every script.
pub(super) fn load() -> Pipeline {
    let mut pipeline = redis::pipe();
    for script in ALL {
        pipeline.cmd("SCRIPT").arg("LOAD").arg(script.code);
    }
    pipeline
}
