//! New keys in the place of old ones, at a running server.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Method;

use super::client::Client;
use super::counting::Counting;
use super::show::Shown;
use super::{Done, ended, sure};
use crate::cli::keys::{KeysCommand, RotateCommand};
use crate::cli::remote::{RemoteArgs, With};
use crate::out::{self, Exit};

const KEYS: &str = "/api/claimd/v1/keys";
const SIGNING: [&str; 3] = ["kid", "createdAt", "validUntil"];
/// Between looks at how far the server is.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) fn keys(command: &With<KeysCommand>) -> Exit {
    let remote = &command.remote;
    ended(match &command.verb {
        KeysCommand::List => list(remote),
        KeysCommand::Rotate(RotateCommand::Jwt(args)) => rotate_jwt(remote, args.yes),
        KeysCommand::Rotate(RotateCommand::Master(args)) => rotate_master(remote, args.yes),
    })
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn list(remote: &RemoteArgs) -> Done<Exit> {
    let found = Client::of(remote)?.get(KEYS)?;
    Shown::many(remote, &SIGNING).rows(rows(&found["signingKeys"]));
    if found["master"]["goingOn"] == true {
        out::talk(format!("the master key is being replaced: {} values sealed anew", found["master"]["resealed"]));
    }
    Ok(Exit::Done)
}

fn rotate_jwt(remote: &RemoteArgs, yes: bool) -> Done<Exit> {
    let client = Client::of(remote)?;
    sure(remote, yes, &format!("signing the sessions of {} with a new key", client.url()))?;
    let keys = client.ask(Method::POST, &format!("{KEYS}/jwt/rotate"), None)?;
    Shown::many(remote, &SIGNING).rows(rows(&keys));
    Ok(Exit::Done)
}

fn rotate_master(remote: &RemoteArgs, yes: bool) -> Done<Exit> {
    let client = Client::of(remote)?;
    sure(remote, yes, &format!("replacing the master key of {} and its file", client.url()))?;
    client.ask(Method::POST, &format!("{KEYS}/master/rotate"), None)?;
    let counting = Counting::start("sealing anew");
    let mut counted = 0;
    loop {
        let master = client.get(KEYS)?["master"].take();
        let resealed = master["resealed"].as_u64().unwrap_or(0);
        counting.add(resealed.saturating_sub(counted));
        counted = counted.max(resealed);
        if master["goingOn"] != true {
            drop(counting);
            Shown::one(remote, &["resealed"]).show(&master);
            out::talk(
                "keep a copy of the new key file apart from backups, and the old one as long as backups under it",
            );
            return Ok(Exit::Done);
        }
        std::thread::sleep(LOOK);
    }
}
