//! The command line as a client of a running server: profiles, requests, answers, exit codes.
//!
//! Secrets never come from the command line as such but for a bare claim code, which is warned of.

mod accounts;
mod audit;
mod bulk;
mod claims;
mod client;
mod counting;
mod gateways;
mod imports;
mod keys;
mod makers;
mod people;
mod profile;
mod qr;
mod roles;
mod self_claim;
mod show;
mod submit;
mod tenants;
mod watch;

use std::io::{IsTerminal, Read};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::cli::remote::{LoginArgs, RemoteArgs};
use crate::out::{self, Exit};

pub(crate) use accounts::account;
pub(crate) use audit::audit;
pub(crate) use claims::claim;
pub(crate) use gateways::gateway;
pub(crate) use imports::{export, import};
pub(crate) use keys::keys;
pub(crate) use makers::{application, device};
pub(crate) use people::customer;
pub(crate) use profile::server_address;
pub(crate) use qr::qr;
pub(crate) use roles::{group, role};
pub(crate) use self_claim::self_claim;
pub(crate) use tenants::tenant;
pub(crate) use watch::watch;

use client::Client;
use show::Shown;

/// Why a command ends early: what to say and how to exit.
#[derive(Debug)]
pub(crate) struct Stop {
    exit: Exit,
    what: String,
    next: String,
}

impl Stop {
    fn new(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { exit, what: what.into(), next: next.into() }
    }

    fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what, next)
    }
}

type Done<T = ()> = Result<T, Stop>;

/// Runs a command and says how it ended.
fn ended(done: Done<Exit>) -> Exit {
    done.unwrap_or_else(|stop| {
        out::error(&stop.what, &stop.next);
        stop.exit
    })
}

pub(crate) fn login(args: &LoginArgs) -> Exit {
    ended(profile::login(args))
}

pub(crate) fn logout(remote: &RemoteArgs) -> Exit {
    ended(profile::logout(remote))
}

pub(crate) fn who_am_i(remote: &RemoteArgs) -> Exit {
    let ask = || {
        let me = Client::of(remote)?.get("/api/auth/user")?;
        Shown::one(remote, &["email", "authority", "tenantId.id", "customerId.id"]).show(&me);
        Ok(Exit::Done)
    };
    ended(ask())
}

/// A secret as it may be given: `@FILE`, `-`, or with a warning as it is.
fn secret(given: &str, what: &str) -> Done<String> {
    let text = match given.strip_prefix('@') {
        Some(file) => std::fs::read_to_string(file).map_err(|error| {
            Stop::usage(format!("`{file}` cannot be read: {error}"), format!("name a file with the {what}"))
        })?,
        None if given == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| Stop::usage(format!("standard input: {error}"), format!("send the {what} there")))?;
            text
        }
        None => {
            out::talk(format!(
                "warning: the {what} is in your shell's history now; give @FILE, or - for standard input"
            ));
            given.to_owned()
        }
    };
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// RFC 3339 has years of four digits.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// An instant as people write it: RFC 3339, or `in 2 days` or `2 days ago` from now.
fn instant(text: &str) -> Done<String> {
    let no_time = |what: String| Stop::usage(what, "write `in 2 days`, `2 days ago`, or 2026-02-28T23:59:59Z");
    let (ahead, back) = (text.strip_prefix("in "), text.strip_suffix(" ago"));
    if let Some(length) = ahead.or(back) {
        let length = humantime::parse_duration(length).map_err(|_| no_time(format!("`{text}` is no time")))?;
        let now = SystemTime::now();
        let then = if ahead.is_some() { now.checked_add(length) } else { now.checked_sub(length) };
        let writable = |then: &SystemTime| then.duration_since(SystemTime::UNIX_EPOCH).is_ok_and(|since| since < LAST);
        let then = then.filter(writable);
        let then = then.ok_or_else(|| no_time(format!("`{text}` is in no calendar")))?;
        return Ok(humantime::format_rfc3339_seconds(then).to_string());
    }
    // The server reads it too; here for an answer before anything is sent.
    claim_codes::window::parse_instant(text).map_err(|fault| no_time(format!("`{text}`: {fault}")))?;
    Ok(text.to_owned())
}

/// Asks before something that cannot be taken back.
fn sure(remote: &RemoteArgs, yes: bool, what: &str) -> Done {
    if yes {
        return Ok(());
    }
    let next = "say --yes to do it without being asked";
    if remote.no_input || !std::io::stdin().is_terminal() {
        return Err(Stop::usage(format!("{what} needs a yes"), next));
    }
    out::talk(format!("{what}? Type yes to go on."));
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    if answer.trim() == "yes" { Ok(()) } else { Err(Stop::new(Exit::Refused, "nothing was changed", next)) }
}

/// A member of an answer as a text, by its path.
fn member<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, member| value.get(member)).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_come_from_files_without_their_last_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "my code \r\n").unwrap();
        assert_eq!(secret(&format!("@{}", file.path().display()), "code").unwrap(), "my code ");
        assert_eq!(secret("@/nowhere", "code").unwrap_err().exit, Exit::Usage);
        assert_eq!(secret("BEEF1234", "code").unwrap(), "BEEF1234");
    }

    #[test]
    fn times_are_rfc_3339_or_from_now() {
        assert_eq!(instant("2026-02-28T23:59:59+01:00").unwrap(), "2026-02-28T23:59:59+01:00");
        assert!(claim_codes::window::parse_instant(&instant("in 2 days").unwrap()).is_ok());
        let ago = claim_codes::window::parse_instant(&instant("2 days ago").unwrap()).unwrap();
        let ahead = claim_codes::window::parse_instant(&instant("in 2 days").unwrap()).unwrap();
        let days = ago.until(ahead).as_secs_f64() / 86_400.0;
        assert!((3.99..4.01).contains(&days), "{days}");
        for bad in [
            "tomorrow",
            "in a while",
            "in 2 days ago",
            "in 9999 years",
            "9999 years ago",
            "2026-02-28",
            "2026-02-31T00:00:00Z",
        ] {
            assert_eq!(instant(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }
}
