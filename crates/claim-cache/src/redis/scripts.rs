//! The scripts, each one atomic change. All keys share one hash tag, so that whatever a script touches is in one slot.

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
pub(super) static TIDY: Known = Known::new(include_str!("scripts/tidy.lua"));
pub(super) static RESERVE: Known = Known::new(include_str!("scripts/reserve.lua"));
pub(super) static REFUND: Known = Known::new(include_str!("scripts/refund.lua"));
pub(super) static FORGIVE: Known = Known::new(include_str!("scripts/forgive.lua"));
pub(super) static RESTORE: Known = Known::new(include_str!("scripts/restore.lua"));
pub(super) static MARK: Known = Known::new(include_str!("scripts/mark.lua"));

const ALL: [&Known; 9] = [&RECORD, &CONSUME, &WITHDRAW, &TIDY, &RESERVE, &REFUND, &FORGIVE, &RESTORE, &MARK];

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
