//! Passwords: which are taken, and argon2id over them with a bound on how many are hashed at once.

use std::sync::Arc;

use argon2::password_hash::SaltString;
use argon2::{Algorithm, Argon2, Params, PasswordHash, PasswordHasher, PasswordVerifier, Version};
use claim::Secret;
use tokio::sync::Semaphore;

use crate::Config;

/// Shortest and longest password, bytes.
const BYTES: std::ops::RangeInclusive<usize> = 12..=256;
/// What people type when a form wants twelve characters.
const COMMON: &[&str] = &[
    "123456789012",
    "1234567890123",
    "12345678901234",
    "123456123456",
    "password1234",
    "passwordpassword",
    "password12345",
    "password123456",
    "qwertyuiop12",
    "qwertyuiop123",
    "qwertyuiopasdf",
    "qwerty123456",
    "q1w2e3r4t5y6",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "abcdefghijkl",
    "abc123abc123",
    "administrator",
    "adminadminadmin",
    "letmeinletmein",
    "iloveyou1234",
    "welcome12345",
    "welcome123456",
    "changeme1234",
    "changemechangeme",
    "thingsboard1",
    "correcthorsebatterystaple",
];

/// Why a password was not hashed or compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PasswordFault {
    /// Not 12 to 256 bytes.
    Length,
    /// One that is guessed first.
    Common,
    /// Too many wait already.
    Busy,
}

impl PasswordFault {
    /// What is wrong and what to do.
    pub fn text(self) -> &'static str {
        match self {
            Self::Length => "a password has 12 to 256 bytes; take another",
            Self::Common => "this password is among the first that are guessed; take another",
            Self::Busy => "too many sign in right now; try again in a moment",
        }
    }
}

/// Hashes and compares passwords: argon2id, 19 MiB, two passes, one lane (OWASP's first choice), off the runtime's threads.
#[derive(Clone)]
pub struct Passwords {
    inner: Arc<Inner>,
}

struct Inner {
    hashers: Semaphore,
    waiting: Semaphore,
    /// Compared with when there is no account, so that an unknown name costs the same.
    nobody: String,
}

fn argon() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(19 * 1024, 2, 1, None).unwrap_or_default())
}

fn digest(password: &[u8]) -> Option<String> {
    let mut salt = [0_u8; 16];
    getrandom::fill(&mut salt).ok()?;
    let salt = SaltString::encode_b64(&salt).ok()?;
    Some(argon().hash_password(password, &salt).ok()?.to_string())
}

impl Passwords {
    /// With the bounds of `[owner_api]`. Hashes once, so it takes some tens of milliseconds.
    pub fn new(config: &Config) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let at_once = if config.hashing_at_once == 0 { cpus } else { config.hashing_at_once };
        let nobody = digest(b"nobody has this password").unwrap_or_default();
        let inner =
            Inner { hashers: Semaphore::new(at_once), waiting: Semaphore::new(at_once + config.hashing_queue), nobody };
        Self { inner: Arc::new(inner) }
    }

    /// Whether a password may be anyone's. `about` is what it must not be either (the e-mail).
    pub fn acceptable(password: &str, about: &str) -> Result<(), PasswordFault> {
        if !BYTES.contains(&password.len()) {
            return Err(PasswordFault::Length);
        }
        let lower = password.to_lowercase();
        let mut letters: Vec<char> = lower.chars().collect();
        letters.sort_unstable();
        letters.dedup();
        if letters.len() < 4 || COMMON.contains(&lower.as_str()) || lower == about.to_lowercase() {
            return Err(PasswordFault::Common);
        }
        Ok(())
    }

    /// The hash of a password as a PHC string.
    pub async fn hash(&self, password: Secret<String>) -> Result<String, PasswordFault> {
        self.work(move || digest(password.expose().as_bytes())).await?.ok_or(PasswordFault::Busy)
    }

    /// Whether a password belongs to a hash; with no hash the answer is no, at the same cost.
    pub(crate) async fn verify(&self, password: Secret<String>, hash: Option<String>) -> Result<bool, PasswordFault> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.inner.nobody.clone());
        self.work(move || {
            let parsed = PasswordHash::new(&hash).ok();
            let right = parsed.is_some_and(|hash| argon().verify_password(password.expose().as_bytes(), &hash).is_ok());
            right && known
        })
        .await
    }

    async fn work<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Result<T, PasswordFault> {
        let _place = self.inner.waiting.try_acquire().map_err(|_| PasswordFault::Busy)?;
        let _hasher = self.inner.hashers.acquire().await.map_err(|_| PasswordFault::Busy)?;
        tokio::task::spawn_blocking(job).await.map_err(|_| PasswordFault::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_long_and_common_passwords_are_refused() {
        let fault = |password: &str| Passwords::acceptable(password, "alice@example.com").err();
        assert_eq!(fault("elevenchars"), Some(PasswordFault::Length));
        assert_eq!(fault(&"ab1c".repeat(65)), Some(PasswordFault::Length));
        for common in ["Password1234", "aaaaaaaaaaaa", "abababababab", "ALICE@example.com"] {
            assert_eq!(fault(common), Some(PasswordFault::Common), "{common}");
        }
        assert_eq!(fault("twelve chars"), None);
        assert_eq!(fault(&"ab1c".repeat(64)), None);
    }

    #[tokio::test]
    async fn a_hash_knows_its_password_and_nobody_has_none() {
        let passwords = Passwords::new(&Config::default());
        let hash = passwords.hash(Secret::new("twelve chars".to_owned())).await.expect("a hash");
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        let try_with = |word: &str, hash: Option<String>| passwords.verify(Secret::new(word.to_owned()), hash);
        assert_eq!(try_with("twelve chars", Some(hash.clone())).await, Ok(true));
        assert_eq!(try_with("twelve char", Some(hash)).await, Ok(false));
        assert_eq!(try_with("nobody has this password", None).await, Ok(false));
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let config = Config { hashing_at_once: 1, hashing_queue: 0, ..Config::default() };
        let passwords = Passwords::new(&config);
        let _held = passwords.inner.waiting.try_acquire().expect("a place");
        assert_eq!(passwords.hash(Secret::new("twelve chars".to_owned())).await, Err(PasswordFault::Busy));
    }
}
