//! Claims by a device's name, as an owner makes them and as its maker looks after them.

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, segment};
use super::show::Shown;
use super::{Done, Stop, ended, secret, submit, sure};
use crate::cli::remote::claims::ClaimCommand;
use crate::cli::remote::{RemoteArgs, With};
use crate::out::{self, Exit};

pub(crate) fn claim(command: &With<ClaimCommand>) -> Exit {
    ended(try_claim(&command.remote, &command.verb))
}

fn path(device: &str) -> String {
    format!("/api/customer/device/{}/claim", segment(device))
}

fn try_claim(remote: &RemoteArgs, verb: &ClaimCommand) -> Done<Exit> {
    if let ClaimCommand::Submit(args) = verb {
        return submit::submit(remote, args);
    }
    let client = Client::of(remote)?;
    let of_device = |device: &str, what: &str| format!("/api/claimd/v1/devices/{}/{what}", segment(device));
    match verb {
        ClaimCommand::Submit(_) => {}
        ClaimCommand::List => {
            let shown = Shown::many(remote, &["device", "source", "secondsLeft", "expiresAt", "receivedAt"]);
            shown.rows(&pending(&client)?);
        }
        ClaimCommand::Revoke { device, yes } => {
            sure(remote, *yes, &format!("dropping the pending claim of `{device}`"))?;
            client.ask(Method::POST, &of_device(device, "revoke-claim"), Some(&json!({})))?;
            out::talk(format!("dropped  {device}: its next announcement counts again"));
        }
        ClaimCommand::Unlock { device } => {
            client.ask(Method::POST, &of_device(device, "unlock"), Some(&json!({})))?;
            out::talk(format!("unlocked  {device}: all wrong tries at it are forgotten"));
        }
        ClaimCommand::Confirm { device, secret: given } => {
            let shown = given.as_deref().map(|given| secret(given, "code")).transpose()?;
            // Grouping is for people; anything else goes as it is.
            let code = shown.map(|shown| claim_codes::code::ungrouped(&shown).into_owned());
            return confirm(remote, &client, device, code.as_deref());
        }
        ClaimCommand::Unclaim { device } => {
            let answer = client.send(Method::DELETE, &path(device), None)?;
            match answer.status {
                404 => {
                    let what = format!("there is no claim of yours on `{device}`");
                    return Err(Stop::new(Exit::NotFound, what, "its maker gives it back too, if it has an owner"));
                }
                400.. => return Err(answer.refusal()),
                _ => out::talk(format!("given back  {device}")),
            }
        }
        ClaimCommand::Status { device } => {
            let state = client.get(&of_device(device, "claim"))?;
            Shown::one(remote, &["claimState", "expiresAt", "claimedAt"]).show(&state);
        }
    }
    Ok(Exit::Done)
}

/// Every pending claim, those first that end first.
fn pending(client: &Client) -> Done<Vec<Value>> {
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/api/claimd/v1/claims?limit=1000{after}"))?;
        rows.extend(page["data"].as_array().cloned().unwrap_or_default());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    rows.sort_by_key(|row| row["secondsLeft"].as_u64());
    Ok(rows)
}

fn confirm(remote: &RemoteArgs, client: &Client, device: &str, code: Option<&str>) -> Done<Exit> {
    let body = code.map_or_else(|| json!({}), |code| json!({"secretKey": code}));
    let answer = client.send(Method::POST, &path(device), Some(&body))?;
    let tries = answer.tries;
    let reason = match (answer.status, &answer.body) {
        (200, _) => "claimed",
        (400, Value::String(_)) => answer.reason.as_deref().unwrap_or("refused"),
        (403, _) => {
            let what = "your account does not claim devices: a maker's does not, and an owner's only if it may";
            return Err(Stop::new(Exit::Forbidden, what, "sign in as the owner; see `claimd whoami`"));
        }
        _ => return Err(answer.refusal()),
    };
    let (exit, what, why, next) = match reason {
        "claimed" => (Exit::Done, "is yours", "", ""),
        "already_yours" => (Exit::Done, "is in your account already", "", ""),
        "owned" => (Exit::Conflict, "another account owns it", "", "ask that person to release it, or ask the seller"),
        "press_button" => (
            Exit::Refused,
            "the code is right, but the device must announce itself too",
            "",
            "press its button and try again within 2 minutes",
        ),
        "window_ended" => (Exit::Refused, "the device's window has closed", "", "press its button and try again"),
        "not_yet" => (Exit::Refused, "the code does not work yet", "", "wait until the day on the label"),
        "code_ended" => (Exit::Refused, "the code has run out", "", "ask the seller for a new one"),
        "frozen" => (Exit::Refused, "the maker has paused claiming for it", "", "ask the seller"),
        _ => (
            Exit::Refused,
            "the code or the name does not match, or the device is not open",
            "the server does not say which, so that nobody can search for names",
            "check both; press the device's button",
        ),
    };
    let mut shown =
        json!({"device": device, "result": if exit == Exit::Done { "claimed" } else { "refused" }, "reason": reason});
    if let Some(tries) = tries {
        shown["triesLeft"] = tries.into();
    }
    Shown::one(remote, &["device", "result", "reason", "triesLeft"]).show(&shown);
    if exit != Exit::Done {
        out::talk(format!("refused  {device}: {what}"));
        let left = tries.map(|tries| format!("; {tries} {} left", if tries == 1 { "try" } else { "tries" }));
        for (word, text) in [("why", why.to_owned()), ("next", format!("{next}{}", left.unwrap_or_default()))] {
            if !text.is_empty() {
                out::talk(format!("{word:<7}  {text}"));
            }
        }
    }
    Ok(exit)
}
