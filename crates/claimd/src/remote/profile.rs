//! Who you are at which server: from the environment, else from a file that only you can read.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;
use ureq::http::Method;

use super::client::Client;
use super::{Done, Stop, secret};
use crate::cli::remote::{LoginArgs, RemoteArgs};
use crate::out::{self, Exit};

#[derive(Serialize, Deserialize)]
struct Profile {
    url: String,
    /// The API key's id, to remove it by.
    key_id: String,
    key: String,
}

fn path(name: &str) -> Done<PathBuf> {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        return Err(Stop::usage(format!("`{name}` is no profile's name"), "letters, digits, - and _"));
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
    let folder =
        config.or_else(home).ok_or_else(|| Stop::usage("there is no HOME to keep a profile in", "set HOME"))?;
    Ok(folder.join("claimd").join(format!("{name}.json")))
}

/// Address and key: both from the environment, or both from the profile.
pub(super) fn server(name: &str) -> Done<(String, String)> {
    if let Some(file) = std::env::var_os("CLAIMD_CLIENT__API_KEY_FILE") {
        let key = std::fs::read_to_string(&file).map_err(|error| {
            let what = format!("CLAIMD_CLIENT__API_KEY_FILE `{}`: {error}", Path::new(&file).display());
            Stop::usage(what, "name a file with an API key")
        })?;
        let url = std::env::var("CLAIMD_CLIENT__URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
        return Ok((url, key.trim().to_owned()));
    }
    let profile = read(name)?;
    Ok((std::env::var("CLAIMD_CLIENT__URL").unwrap_or(profile.url), profile.key))
}

/// Host and port of the server whose address is known: by the environment, else by the profile.
pub(crate) fn server_address(name: &str) -> Option<(String, u16)> {
    let url = std::env::var("CLAIMD_CLIENT__URL").ok().or_else(|| read(name).ok().map(|profile| profile.url))?;
    let url = url.parse::<ureq::http::Uri>().ok()?;
    Some((url.host()?.to_owned(), url.port_u16().unwrap_or(80)))
}

fn read(name: &str) -> Done<Profile> {
    let path = path(name)?;
    let not_signed_in =
        || Stop::new(Exit::Forbidden, format!("nobody is signed in as `{name}`"), "sign in: `claimd login`");
    let text = std::fs::read_to_string(&path).map_err(|_| not_signed_in())?;
    let mode = path.metadata().map(|data| data.permissions().mode()).unwrap_or_default();
    if mode & 0o077 != 0 {
        let next = format!("chmod 600 {}", path.display());
        return Err(Stop::usage(format!("others can read `{}`, which holds your key", path.display()), next));
    }
    serde_json::from_str(&text).map_err(|_| not_signed_in())
}

/// Signs in with the password and keeps an API key of its own.
pub(super) fn login(args: &LoginArgs) -> Done<Exit> {
    let path = path(&args.remote.profile)?;
    let password = match &args.password {
        Some(given) if given.starts_with('@') || given == "-" => secret(given, "password")?,
        Some(_) => {
            return Err(Stop::usage(
                "a password is no argument",
                "give --password @FILE, - for standard input, or none",
            ));
        }
        None => match std::env::var("CLAIMD_CLIENT__PASSWORD") {
            Ok(password) => password,
            Err(_) if args.remote.no_input => {
                return Err(Stop::usage(
                    "there is no password",
                    "give --password @FILE, or set CLAIMD_CLIENT__PASSWORD",
                ));
            }
            Err(_) => rpassword::prompt_password(format!("Password of {}: ", args.name))
                .map_err(|error| Stop::usage(format!("no password: {error}"), "give --password @FILE"))?,
        },
    };
    let stranger = Client::at(&args.url, None)?;
    let pair = json!({"username": args.name, "password": password});
    let pair = stranger.ask(Method::POST, "/api/auth/login", Some(&pair))?;
    let bearer = pair["token"].as_str().unwrap_or_default().to_owned();
    let signed_in = Client::at(&args.url, Some(bearer))?;
    let made = signed_in.ask(Method::POST, "/api/claimd/v1/api-keys", Some(&json!({"name": "claimd login"})))?;
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    let profile = Profile { url: signed_in.url().to_owned(), key_id: text("id"), key: text("key") };
    // The key of before is of no use to anybody.
    if let Ok(before) = read(&args.remote.profile) {
        let _ = remove_key(&before);
    }
    write(&path, &profile)?;
    out::talk(format!("signed in as {} at {}; the key is in {}", args.name, profile.url, path.display()));
    Ok(Exit::Done)
}

fn write(path: &Path, profile: &Profile) -> Done {
    let kept = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // A new file, so that its mode is ours whatever was there.
        let fresh = path.with_extension("new");
        let _ = std::fs::remove_file(&fresh);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec_pretty(profile)?)?;
        std::fs::rename(&fresh, path)
    };
    kept().map_err(|error| {
        Stop::new(Exit::Usage, format!("`{}` cannot be written: {error}", path.display()), "set XDG_CONFIG_HOME")
    })
}

pub(super) fn logout(remote: &RemoteArgs) -> Done<Exit> {
    let profile = read(&remote.profile)?;
    let path = path(&remote.profile)?;
    let removed = remove_key(&profile);
    std::fs::remove_file(&path)
        .map_err(|error| Stop::new(Exit::Usage, format!("`{}` cannot be removed: {error}", path.display()), ""))?;
    if let Err(stop) = removed {
        let next = format!("remove the key with DELETE /api/claimd/v1/api-keys/{}", profile.key_id);
        return Err(Stop::new(
            stop.exit,
            format!("signed out here, but the server keeps the key: {}", stop.what),
            next,
        ));
    }
    out::talk(format!("signed out; the key at {} is gone", profile.url));
    Ok(Exit::Done)
}

fn remove_key(profile: &Profile) -> Done {
    let client = Client::at(&profile.url, Some(profile.key.clone()))?;
    client.ask(Method::DELETE, &format!("/api/claimd/v1/api-keys/{}", profile.key_id), None).map(drop)
}
