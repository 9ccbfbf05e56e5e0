//! The install's master key: 32 random bytes in a file of their own, readable by nobody else.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use claim::{Keyring, Secret};

/// Why the start stops here: what happened, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyFault {
    pub(crate) path: PathBuf,
    pub(crate) what: String,
    pub(crate) next: String,
}

/// Reads the master key, making it on the first start.
///
/// A key that others can read, or of the wrong length, stops the start: running on would be worse than not running.
pub(crate) fn open(path: &Path) -> Result<Keyring, KeyFault> {
    let fault = |what: String, next: &str| KeyFault { path: path.to_owned(), what, next: next.to_owned() };
    match fs::File::open(path) {
        Ok(mut file) => {
            let meta = file.metadata().map_err(|error| fault(format!("cannot be read: {error}"), "check the path"))?;
            if meta.mode() & 0o077 != 0 {
                let mode = meta.mode() & 0o777;
                return Err(fault(
                    format!("can be read by others (mode {mode:04o})"),
                    "run `chmod 600` on it; if others may have read it, replace it before going on",
                ));
            }
            let mut bytes = Secret::new([0u8; 32]);
            let exact = file.read_exact(bytes.expose_mut()).is_ok() && meta.len() == 32;
            if !exact {
                return Err(fault(
                    format!("holds {} bytes, not 32", meta.len()),
                    "restore the right file; without it every stored digest is useless",
                ));
            }
            Ok(Keyring::from_master(bytes.expose()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => create(path).map_err(|error| {
            fault(format!("cannot be made: {error}"), "check that the folder exists and can be written")
        }),
        Err(error) => Err(fault(format!("cannot be read: {error}"), "check the path and its owner")),
    }
}

fn create(path: &Path) -> std::io::Result<Keyring> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let mut bytes = Secret::new([0u8; 32]);
    getrandom::fill(bytes.expose_mut()).map_err(std::io::Error::other)?;
    // `create_new`: of two processes starting at once, one makes the key and the other stops with a clear error.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes.expose())?;
    file.sync_all()?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(Keyring::from_master(bytes.expose()))
}

/// A first password: four groups of four characters that cannot be taken for each other, 93 bits.
pub(crate) fn random_password() -> Option<Secret<String>> {
    const LETTERS: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let mut password = Secret::new(String::with_capacity(19));
    let mut byte = [0_u8];
    while password.expose().len() < 19 {
        if password.expose().len() % 5 == 4 {
            password.expose_mut().push('-');
            continue;
        }
        getrandom::fill(&mut byte).ok()?;
        // The rest of 256 divided by the number of letters would make some more likely than others.
        if usize::from(byte[0]) < 256 - 256 % LETTERS.len() {
            password.expose_mut().push(char::from(LETTERS[usize::from(byte[0]) % LETTERS.len()]));
        }
    }
    Some(password)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn token(keyring: &Keyring) -> [u8; 32] {
        *keyring.access_token("t").as_bytes()
    }

    #[test]
    fn the_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/master.key");
        let first = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(token(&first), token(&open(&path).unwrap()));
    }

    #[test]
    fn first_passwords_are_long_readable_and_all_different() {
        let passwords: Vec<_> = (0..100).map(|_| random_password().unwrap().expose().clone()).collect();
        let distinct: std::collections::HashSet<_> = passwords.iter().collect();
        assert_eq!(distinct.len(), 100);
        for password in passwords {
            assert_eq!(password.len(), 19);
            assert!(password.split('-').all(|group| group.len() == 4), "{password}");
            assert!(!password.contains(['0', 'O', '1', 'l', 'I']), "{password}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_stops_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(open(&path).unwrap_err().what.contains("0640"));
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 31, 33] {
            let path = folder.path().join(format!("{length}.key"));
            fs::write(&path, vec![1; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(open(&path).unwrap_err().what.contains(&format!("holds {length} bytes")));
        }
    }
}
