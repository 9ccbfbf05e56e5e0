//! Files and folders: the settings, the data folder and how fast its disk is, the master key, certificates.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use x509_cert::Certificate;

use super::Check;
use crate::config::Loaded;
use crate::keys;

/// Above this each confirm, which waits for the disk, is slow.
const SLOW_SYNC: Duration = Duration::from_millis(20);
/// A certificate that ends sooner is worth a word.
const RENEW: Duration = Duration::from_secs(30 * 24 * 3600);
/// Writes that are timed.
const SYNCS: usize = 8;

pub(super) fn checks(loaded: &Loaded, file: Option<&Path>, data_dir: &Path) -> Vec<Check> {
    let mut checks = vec![settings(loaded, file)];
    checks.extend(folder(data_dir));
    checks.push(master_key(&loaded.settings.server.key_file()));
    let manifest = &loaded.settings.manifest;
    for (key, files) in [("manifest.log_signers", &manifest.log_signers), ("manifest.roots", &manifest.roots)] {
        checks.extend(files.iter().map(|file| certificates(key, Path::new(file))));
    }
    checks.extend(of_tls(&loaded.settings.registry));
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

/// What TLS to the database is made with.
fn of_tls(registry: &registry::Config) -> Vec<Check> {
    let named = [
        ("registry.tls_ca_file", &registry.tls_ca_file),
        ("registry.tls_certificate_file", &registry.tls_certificate_file),
    ];
    let named = named.into_iter().filter(|(_, file)| !file.is_empty());
    let mut checks: Vec<Check> = named.map(|(key, file)| certificates(key, Path::new(file))).collect();
    if !registry.tls_key_file.is_empty() {
        checks.push(private("registry.tls_key_file", Path::new(&registry.tls_key_file)));
    }
    checks
}

/// A key that is in use as it is.
fn private(key: &str, path: &Path) -> Check {
    match path.metadata().map(|meta| meta.mode() & 0o777) {
        Ok(mode) if mode & 0o077 == 0 => Check::ok(key, format!("{} is its owner's alone", path.display())),
        Ok(mode) => Check::fault(
            key,
            format!("{} can be read by others (mode {mode:04o})", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        Err(error) => cannot_read(key, path, &error),
    }
}

/// A file of certificates, by the one that ends first.
fn certificates(key: &str, path: &Path) -> Check {
    let shown = path.display();
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return cannot_read(key, path, &error),
    };
    let chain = Certificate::load_pem_chain(&bytes).unwrap_or_default();
    let ends = chain.iter().map(|one| one.tbs_certificate().validity().not_after.to_unix_duration()).min();
    match ends {
        Some(ends) => expiry(key, &shown.to_string(), ends, since_1970()),
        None => Check::fault(key, format!("{shown} holds no certificate"), "name a PEM file with certificates alone"),
    }
}

fn cannot_read(key: &str, path: &Path, error: &std::io::Error) -> Check {
    let next = "name a file that the server's user can read";
    Check::fault(key, format!("{} cannot be read: {error}", path.display()), next)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn expiry(key: &str, file: &str, ends: Duration, now: Duration) -> Check {
    let day = humantime::format_rfc3339_seconds(UNIX_EPOCH + ends);
    let next = "have it renewed, put the new one there, and restart";
    match ends.checked_sub(now) {
        None => Check::fault(key, format!("{file} ended on {day}"), next),
        Some(left) if left < RENEW => Check::warn(key, format!("{file} ends on {day}"), next),
        Some(_) => Check::ok(key, format!("{file} is good until {day}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn certificates_are_told_of_a_month_before_their_end() {
        let now = Duration::from_secs(1_800_000_000);
        let state = |ends| expiry("key", "file", ends, now).state;
        assert_eq!(state(now + RENEW), State::Ok);
        assert_eq!(state(now + RENEW - Duration::from_secs(1)), State::Warn);
        assert_eq!(state(now), State::Warn);
        assert_eq!(state(now - Duration::from_secs(1)), State::Fault);
    }

    #[test]
    fn a_slow_disk_is_a_warning() {
        assert_eq!(disk_speed(SLOW_SYNC).state, State::Ok);
        assert_eq!(disk_speed(SLOW_SYNC + Duration::from_micros(1)).state, State::Warn);
    }
}
