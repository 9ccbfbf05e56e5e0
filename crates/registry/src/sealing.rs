//! Sealing of what must be read back in clear: AES-256-GCM under a subkey of the master key, bound to what it belongs to.
//!
//! While the master key is being replaced there are two: the new one seals, both open. Which one a value was sealed under its
//! own tag tells.

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use claim::{MasterKey, Secret};

/// Seals and opens; see the module's head.
pub(crate) struct Sealer {
    keys: RwLock<Keys>,
}

#[derive(Clone)]
struct Keys {
    newest: SealingKey,
    /// Opens what is not sealed anew yet.
    before: Option<SealingKey>,
}

/// One sealing key; of none, nothing is sealed and nothing opens.
#[derive(Clone)]
pub(crate) struct SealingKey(Option<Arc<RandomizedNonceKey>>);

impl SealingKey {
    pub(crate) fn new(master: &MasterKey) -> Self {
        Self(RandomizedNonceKey::new(&AES_256_GCM, &*master.sealing_key()).ok().map(Arc::new))
    }

    /// Nonce, then ciphertext and tag. `None`: the cryptography refused, nothing may be stored.
    pub(crate) fn seal(&self, bound_to: &[&[u8]], clear: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = clear.to_vec();
        let nonce = self.0.as_ref()?.seal_in_place_append_tag(Aad::from(bound_to.concat()), &mut sealed).ok()?;
        Some([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// `None`: not sealed under this key, or for something else.
    pub(crate) fn open(&self, bound_to: &[&[u8]], sealed: &[u8]) -> Option<Secret<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = Secret::new(sealed.to_vec());
        let length =
            self.0.as_ref()?.open_in_place(nonce, Aad::from(bound_to.concat()), buffer.expose_mut()).ok()?.len();
        buffer.expose_mut().truncate(length);
        Some(buffer)
    }
}

impl Sealer {
    pub(crate) fn new(newest: &MasterKey, before: Option<&MasterKey>) -> Self {
        let keys = Keys { newest: SealingKey::new(newest), before: before.map(SealingKey::new) };
        Self { keys: RwLock::new(keys) }
    }

    fn keys(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Under the newest key; see [`SealingKey::seal`].
    pub(crate) fn seal(&self, bound_to: &[&[u8]], clear: &[u8]) -> Option<Vec<u8>> {
        self.keys().newest.seal(bound_to, clear)
    }

    /// `None`: not sealed by this install, or for something else.
    pub(crate) fn open(&self, bound_to: &[&[u8]], sealed: &[u8]) -> Option<Secret<Vec<u8>>> {
        let keys = self.keys();
        keys.newest.open(bound_to, sealed).or_else(|| keys.before?.open(bound_to, sealed))
    }

    /// The key that seals.
    pub(crate) fn newest(&self) -> SealingKey {
        self.keys().newest
    }

    /// From now on `newest` seals; what it replaces goes on opening.
    pub(crate) fn replace(&self, newest: SealingKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut keys.newest, newest);
        keys.before = Some(before);
    }

    /// Lets go of the key before the newest.
    pub(crate) fn settle(&self) {
        self.keys.write().unwrap_or_else(PoisonError::into_inner).before = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_bytes(&[byte; 32])
    }

    #[test]
    fn what_is_sealed_opens_only_here_and_only_for_what_it_belongs_to() {
        let sealer = Sealer::new(&master(1), None);
        let sealed = sealer.seal(&[b"tenant", b"device"], b"token").unwrap();
        assert!(!sealed.windows(5).any(|w| w == b"token"));
        assert_eq!(sealer.open(&[b"tenant", b"device"], &sealed).unwrap().expose(), b"token");
        assert!(sealer.open(&[b"tenant", b"other"], &sealed).is_none());
        assert!(Sealer::new(&master(2), None).open(&[b"tenant", b"device"], &sealed).is_none());
        assert!(sealer.open(&[b"tenant", b"device"], &sealed[..5]).is_none());
        assert_ne!(sealer.seal(&[], b"x").unwrap(), sealer.seal(&[], b"x").unwrap());
    }

    #[test]
    fn while_a_key_is_replaced_both_open_and_the_new_one_seals() {
        let sealer = Sealer::new(&master(1), None);
        let old = sealer.seal(&[], b"old").unwrap();
        sealer.replace(SealingKey::new(&master(2)));
        let new = sealer.seal(&[], b"new").unwrap();
        assert!(SealingKey::new(&master(1)).open(&[], &new).is_none());
        assert_eq!(sealer.open(&[], &old).unwrap().expose(), b"old");
        assert_eq!(sealer.open(&[], &new).unwrap().expose(), b"new");
        sealer.settle();
        assert!(sealer.open(&[], &old).is_none());
        assert_eq!(sealer.open(&[], &new).unwrap().expose(), b"new");
    }
}
