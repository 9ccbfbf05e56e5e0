//! Files and folders: the settings, the data folder and how fast its disk is, the master key, certificates.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Check;
use crate::config::Loaded;
use crate::keys;

/// Above this each confirm, which waits for the disk, is slow.
const SLOW_SYNC: Duration = Duration::from_millis(20);
/// Writes that are timed.
const SYNCS: usize = 8;

pub(super) fn checks(loaded: &Loaded, file: Option<&Path>, data_dir: &Path) -> Vec<Check> {
    let mut checks = vec![settings(loaded, file)];
    checks.extend(folder(data_dir));
    checks.push(master_key(&loaded.settings.server.key_file()));
    let manifest = &loaded.settings.manifest;
    for (key, files) in [("manifest.log_signers", &manifest.log_signers), ("manifest.roots", &manifest.roots)] {
        checks.extend(files.iter().map(|file| readable(key, Path::new(file))));
    }
    checks
}

fn settings(loaded: &Loaded, file: Option<&Path>) -> Check {
    let name = "settings";
    let Some(path) = file else { return Check::ok(name, "no file; defaults and the environment") };
    let secrets: Vec<&str> = loaded.secrets_in_file().collect();
    let mode = path.metadata().map(|meta| meta.mode() & 0o777).unwrap_or_default();
    if !secrets.is_empty() && mode & 0o077 != 0 {
        return Check::fault(
            name,
            format!("{} is mode {mode:04o} and holds `{}`", path.display(), secrets.join("`, `")),
            format!("chmod 600 {}, or give the secret by its variable with _FILE", path.display()),
        );
    }
    Check::ok(name, path.display().to_string())
}

fn folder(data_dir: &Path) -> Vec<Check> {
    let name = "data folder";
    let shown = data_dir.display();
    let meta = match data_dir.metadata() {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => return vec![Check::fault(name, format!("{shown} is no folder"), "set `server.data_dir`")],
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return vec![Check::ok(name, format!("{shown} is made at the first start"))];
        }
        Err(error) => {
            let next = "check the path and its owner";
            return vec![Check::fault(name, format!("{shown} cannot be looked at: {error}"), next)];
        }
    };
    let mode = meta.mode() & 0o777;
    let owner = match mode & 0o077 {
        0 => Check::ok(name, format!("{shown} is its owner's alone (mode {mode:04o})")),
        _ => Check::warn(name, format!("{shown} is open to others (mode {mode:04o})"), format!("chmod 700 {shown}")),
    };
    match sync_time(data_dir) {
        Ok(took) => vec![owner, disk_speed(took)],
        Err(error) => {
            let next = "mount it writable, or give it to the server's user: chown -R";
            vec![owner, Check::fault("data disk", format!("{shown} cannot be written: {error}"), next)]
        }
    }
}

/// What one small write takes until the disk has it; the middle of some.
fn sync_time(folder: &Path) -> std::io::Result<Duration> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let mut times = [Duration::ZERO; SYNCS];
    for time in &mut times {
        let began = Instant::now();
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        *time = began.elapsed();
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

fn disk_speed(took: Duration) -> Check {
    let found = format!("a synced write takes {:.1} ms", took.as_secs_f64() * 1000.0);
    if took > SLOW_SYNC {
        return Check::warn(
            "data disk",
            format!("{found}; each confirm waits for one"),
            "use a disk with a write cache that survives a power loss, or an SSD",
        );
    }
    Check::ok("data disk", found)
}

fn master_key(path: &Path) -> Check {
    let name = "master key";
    match keys::read(path) {
        Ok(Some(keys)) if keys.before.is_some() => Check::warn(
            name,
            format!("{} holds two keys: a rotation is not at its end", path.display()),
            "let the server run; it goes on by itself",
        ),
        Ok(Some(_)) => Check::ok(name, format!("{} is its reader's alone", path.display())),
        Ok(None) => Check::ok(name, format!("{} is made at the first start; keep a copy then", path.display())),
        Err(fault) => Check::fault(name, format!("{} {}", path.display(), fault.what), fault.next),
    }
}

fn readable(key: &str, path: &Path) -> Check {
    match std::fs::read_to_string(path) {
        Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => Check::ok(key, path.display().to_string()),
        Ok(_) => Check::fault(key, format!("{} holds no certificate", path.display()), "name PEM files"),
        Err(error) => {
            let next = "name a file that the server's user can read";
            Check::fault(key, format!("{} cannot be read: {error}", path.display()), next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_slow_disk_is_a_warning() {
        assert_eq!(disk_speed(SLOW_SYNC).state, State::Ok);
        assert_eq!(disk_speed(SLOW_SYNC + Duration::from_micros(1)).state, State::Warn);
    }
}
