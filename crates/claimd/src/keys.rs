//! The install's master key: 32 random bytes in a file of their own, readable by nobody else. While the key is being replaced the
//! file has 64: the new key, then the one before, so that an end at any moment leaves everything readable.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use claim::{MasterKey, Secret};

/// Why the start stops here: what happened, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeyFault {
    pub(crate) path: PathBuf,
    pub(crate) what: String,
    pub(crate) next: String,
}

/// What is in the key file: the master key, and behind it the one before while a rotation is not at its end.
#[derive(Debug)]
pub(crate) struct MasterKeys {
    pub(crate) newest: MasterKey,
    pub(crate) before: Option<MasterKey>,
}

/// Reads the master key, making it on the first start.
///
/// A key that others can read, or of the wrong length, stops the start: running on would be worse than not running.
pub(crate) fn open(path: &Path) -> Result<MasterKeys, KeyFault> {
    if let Some(keys) = read(path)? {
        return Ok(keys);
    }
    create(path).map_err(|error| KeyFault {
        path: path.to_owned(),
        what: format!("cannot be made: {error}"),
        next: "check that the folder exists and can be written".to_owned(),
    })
}

/// Reads the master key; `None` when there is no file.
pub(crate) fn read(path: &Path) -> Result<Option<MasterKeys>, KeyFault> {
    let fault = |what: String, next: &str| KeyFault { path: path.to_owned(), what, next: next.to_owned() };
    match fs::File::open(path) {
        Ok(mut file) => {
            let meta = file.metadata().map_err(|error| fault(format!("cannot be read: {error}"), "check the path"))?;
            let mode = meta.mode() & 0o777;
            if !is_private(mode, meta.uid(), meta.gid(), &Reader::this_process()) {
                return Err(fault(
                    format!("can be read by others (mode {mode:04o})"),
                    "run `chmod 600` on it; if others may have read it, run `claimd keys rotate master` then",
                ));
            }
            let mut read = || {
                let mut bytes = Secret::new([0u8; 32]);
                file.read_exact(bytes.expose_mut()).ok().map(|()| MasterKey::from_bytes(bytes.expose()))
            };
            match (meta.len(), read(), read()) {
                (32, Some(newest), None) => Ok(Some(MasterKeys { newest, before: None })),
                (64, Some(newest), before @ Some(_)) => Ok(Some(MasterKeys { newest, before })),
                _ => Err(fault(
                    format!("holds {} bytes, not 32", meta.len()),
                    "restore the right file; without it every stored digest is useless",
                )),
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fault(format!("cannot be read: {error}"), "check the path and its owner")),
    }
}

/// Who reads the file.
struct Reader {
    user: u32,
    groups: Vec<u32>,
}

impl Reader {
    fn this_process() -> Self {
        let mut groups: Vec<u32> =
            rustix::process::getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()).collect();
        groups.push(rustix::process::getegid().as_raw());
        Self { user: rustix::process::geteuid().as_raw(), groups }
    }
}

/// Whether a key file is for its reader alone. Two makers of such files cannot say so by the mode 0600: systemd's credentials
/// (an access list whose mask shows as the group's bits; the group is root's) and Kubernetes' secrets (the pod's own group).
/// Both belong to root and are mode 0440.
fn is_private(mode: u32, owner: u32, group: u32, reader: &Reader) -> bool {
    let lent = mode == 0o440 && owner == 0 && reader.user != 0 && (group == 0 || reader.groups.contains(&group));
    mode & 0o077 == 0 || lent
}

fn create(path: &Path) -> std::io::Result<MasterKeys> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let newest = random()?;
    // `create_new`: of two processes starting at once, one makes the key and the other stops with a clear error.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(newest.expose())?;
    file.sync_all()?;
    sync_folder(path)?;
    Ok(MasterKeys { newest, before: None })
}

/// A new key.
pub(crate) fn random() -> std::io::Result<MasterKey> {
    let mut bytes = Secret::new([0u8; 32]);
    getrandom::fill(bytes.expose_mut()).map_err(std::io::Error::other)?;
    Ok(MasterKey::from_bytes(bytes.expose()))
}

/// Puts keys in the place of those in the file, whole or not at all.
pub(crate) fn replace(path: &Path, newest: &MasterKey, before: Option<&MasterKey>) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    // What an earlier try has left may be of any mode.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(newest.expose())?;
    if let Some(before) = before {
        file.write_all(before.expose())?;
    }
    file.sync_all()?;
    fs::rename(&beside, path)?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => fs::File::open(folder)?.sync_all(),
        _ => fs::File::open(".")?.sync_all(),
    }
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

    #[test]
    fn the_key_is_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/master.key");
        let first = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(first.before.is_none());
        assert_eq!(first.newest.expose(), open(&path).unwrap().newest.expose());
    }

    #[test]
    fn keys_are_replaced_whole_for_their_owner_alone_and_both_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        let first = open(&path).unwrap().newest;
        let second = random().unwrap();
        // What an earlier try has left.
        fs::write(folder.path().join("master.key.new"), "torn").unwrap();
        replace(&path, &second, Some(&first)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let both = open(&path).unwrap();
        assert_eq!(both.newest.expose(), second.expose());
        assert_eq!(both.before.unwrap().expose(), first.expose());
        replace(&path, &second, None).unwrap();
        let settled = open(&path).unwrap();
        assert!(settled.newest.expose() == second.expose() && settled.before.is_none());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
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
    fn a_key_that_root_lends_to_this_user_alone_is_private() {
        let reader = Reader { user: 65_532, groups: vec![65_532, 2_000] };
        let root = Reader { user: 0, groups: vec![0] };
        for (mode, owner, group, reader, private) in [
            (0o600, 65_532, 65_532, &reader, true),
            (0o400, 0, 0, &reader, true),
            (0o440, 0, 0, &reader, true),
            (0o440, 0, 2_000, &reader, true),
            (0o440, 0, 100, &reader, false),
            (0o440, 65_532, 65_532, &reader, false),
            (0o640, 0, 2_000, &reader, false),
            (0o444, 0, 2_000, &reader, false),
            (0o440, 0, 0, &root, false),
        ] {
            assert_eq!(is_private(mode, owner, group, reader), private, "{mode:o} {owner} {group}");
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 31, 33, 63, 65, 96] {
            let path = folder.path().join(format!("{length}.key"));
            fs::write(&path, vec![1; length]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(open(&path).unwrap_err().what.contains(&format!("holds {length} bytes")));
        }
    }
}
