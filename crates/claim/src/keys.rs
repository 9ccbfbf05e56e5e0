//! The install's keys, for those who run it: making new ones while everything goes on.

use std::sync::Arc;

use crate::applications::By;
use crate::directory::Answer;
use crate::secret::Secret;
use crate::time::Timestamp;

/// Signing keys that may be valid at once; more are refused, so that rotating again and again stores a bounded amount.
pub const SIGNING_KEYS: u32 = 10;

/// A key that signs sessions, or did.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// Its id, as bearers name it.
    pub kid: String,
    /// 32 bytes, sealed at rest.
    pub key: Arc<Secret<Vec<u8>>>,
    /// When it was made.
    pub created_at: Timestamp,
    /// What it signed is good until just before; `None`: it signs.
    pub valid_until: Option<Timestamp>,
}

/// The keys that sign sessions.
pub trait SigningKeys: Send + Sync {
    /// The keys that are valid at `now`, first the one that signs, which is made on first use.
    fn signing_keys(&self, now: Timestamp) -> Answer<'_, Vec<SigningKey>>;

    /// Makes a new key that signs from now on; those before it are valid until `until`, or until they end anyway. Keys that are
    /// over are removed. Audited. Of more than [`SIGNING_KEYS`] the last is refused as [`Full`].
    ///
    /// [`Full`]: crate::directory::DirectoryError::Full
    fn rotate_signing_key(&self, until: Timestamp, by: By) -> Answer<'_, Vec<SigningKey>>;
}

/// How far a rotation of the master key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MasterRotation {
    /// Whether values are being sealed anew; while they are, two master keys are kept.
    pub going_on: bool,
    /// Values sealed anew by the last rotation since the start.
    pub resealed: u64,
}

/// The master key, under which everything is sealed that must be read back in clear.
pub trait MasterKeys: Send + Sync {
    /// Puts a new key in the place of the present one, keeps both on record until everything is sealed anew, and begins with
    /// that; refused while a rotation is going on. Audited. Nothing that is sealed is unreadable at any moment, whatever ends
    /// the process.
    fn rotate(&self, by: By) -> Answer<'_, ()>;

    /// How far the last rotation is.
    fn rotation(&self) -> MasterRotation;
}
