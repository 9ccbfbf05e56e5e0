//! Sealing of what must be read back in clear: AES-256-GCM under a subkey of the master key, bound to what it belongs to.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use claim::{Keyring, Secret};

/// Seals and opens; see the module's head.
pub(crate) struct Sealer {
    key: Option<RandomizedNonceKey>,
}

impl Sealer {
    pub(crate) fn new(keyring: &Keyring) -> Self {
        Self { key: RandomizedNonceKey::new(&AES_256_GCM, keyring.sealing_key()).ok() }
    }

    /// Nonce, then ciphertext and tag. `None`: the cryptography refused, nothing may be stored.
    pub(crate) fn seal(&self, bound_to: &[&[u8]], clear: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = clear.to_vec();
        let nonce = self.key.as_ref()?.seal_in_place_append_tag(Aad::from(bound_to.concat()), &mut sealed).ok()?;
        Some([nonce.as_ref().as_slice(), &sealed].concat())
    }

    /// `None`: not sealed by this install, or for something else.
    pub(crate) fn open(&self, bound_to: &[&[u8]], sealed: &[u8]) -> Option<Secret<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut buffer = Secret::new(sealed.to_vec());
        let length =
            self.key.as_ref()?.open_in_place(nonce, Aad::from(bound_to.concat()), buffer.expose_mut()).ok()?.len();
        buffer.expose_mut().truncate(length);
        Some(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_here_and_only_for_what_it_belongs_to() {
        let sealer = Sealer::new(&Keyring::from_master(&[1; 32]));
        let sealed = sealer.seal(&[b"tenant", b"device"], b"token").unwrap();
        assert!(!sealed.windows(5).any(|w| w == b"token"));
        assert_eq!(sealer.open(&[b"tenant", b"device"], &sealed).unwrap().expose(), b"token");
        assert!(sealer.open(&[b"tenant", b"other"], &sealed).is_none());
        assert!(Sealer::new(&Keyring::from_master(&[2; 32])).open(&[b"tenant", b"device"], &sealed).is_none());
        assert!(sealer.open(&[b"tenant", b"device"], &sealed[..5]).is_none());
        assert_ne!(sealer.seal(&[], b"x").unwrap(), sealer.seal(&[], b"x").unwrap());
    }
}
