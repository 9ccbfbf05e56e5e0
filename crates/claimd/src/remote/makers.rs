//! Applications and the devices listed in them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use ureq::http::Method;

use super::bulk;
use super::client::{Client, segment};
use super::gateways::renamed;
use super::show::Shown;
use super::{Done, Stop, ended, instant, secret, sure};
use crate::cli::remote::{
    ApplicationCommand, CodeArgs, DeviceClaimArgs, DeviceCommand, DeviceCreateArgs, DeviceState, RemoteArgs,
    TokenCommand, With,
};
use crate::out::{self, Exit};

const APPLICATION: [&str; 5] = ["id", "claimingAuthorized", "invalidateCodeOnClaim", "customerId", "createdAt"];
const DEVICE: [&str; 20] = [
    "id",
    "name",
    "label",
    "devEui",
    "joinEui",
    "serialNumber",
    "externalId",
    "home.application",
    "place.application",
    "owner",
    "claimedAt",
    "frozen",
    "presence",
    "code.value",
    "code.validFrom",
    "code.validTo",
    "rootKeysExposed",
    "appKey",
    "nwkKey",
    "createdAt",
];
const LISTED: [&str; 6] = ["id", "label", "devEui", "owner", "code.setAt", "frozen"];

fn applications(application: &str) -> String {
    format!("/api/claimd/v1/applications/{}", segment(application))
}

fn place(application: &str, device: &str) -> String {
    format!("{}/devices/{}", applications(application), segment(device))
}

fn authorize(application: &str) -> String {
    format!("/api/v3/edcs/applications/{}/authorize", segment(application))
}

pub(crate) fn application(command: &With<ApplicationCommand>) -> Exit {
    ended(try_application(&command.remote, &command.verb))
}

fn try_application(remote: &RemoteArgs, verb: &ApplicationCommand) -> Done<Exit> {
    let client = Client::of(remote)?;
    let shown = Shown::one(remote, &APPLICATION);
    match verb {
        ApplicationCommand::Create { application, customer, closed } => {
            let mut body = json!({"id": application, "claimingAuthorized": !closed});
            if let Some(customer) = customer {
                body["customerId"] = customer.as_str().into();
            }
            shown.show(&client.ask(Method::POST, "/api/claimd/v1/applications", Some(&body))?);
        }
        ApplicationCommand::List => {
            Shown::many(remote, &APPLICATION).rows(&client.all("/api/claimd/v1/applications")?);
        }
        ApplicationCommand::Get { application } => shown.show(&client.get(&applications(application))?),
        ApplicationCommand::Set { application, invalidate_code_on_claim } => {
            let value = match invalidate_code_on_claim.as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                "inherit" => Value::Null,
                _ => return Err(Stop::usage("--invalidate-code-on-claim takes true, false or inherit", "")),
            };
            let body = json!({"invalidateCodeOnClaim": value});
            shown.show(&client.ask(Method::PUT, &applications(application), Some(&body))?);
        }
        ApplicationCommand::Delete { application, yes } => {
            sure(remote, *yes, &format!("removing the application `{application}`"))?;
            client.ask(Method::DELETE, &applications(application), None)?;
            out::talk(format!("removed  {application}"));
        }
        ApplicationCommand::Authorize { application } => {
            client.ask(Method::POST, &authorize(application), Some(&json!({})))?;
            out::talk(format!("authorised  {application}: its devices may be claimed"));
        }
        ApplicationCommand::Unauthorize { application } => {
            client.ask(Method::DELETE, &authorize(application), None)?;
            out::talk(format!("closed  {application}: nothing more is claimed; owners keep what they have"));
        }
    }
    Ok(Exit::Done)
}

pub(crate) fn device(command: &With<DeviceCommand>) -> Exit {
    ended(try_device(&command.remote, &command.verb))
}

fn try_device(remote: &RemoteArgs, verb: &DeviceCommand) -> Done<Exit> {
    let client = Client::of(remote)?;
    let shown = Shown::one(remote, &DEVICE);
    match verb {
        DeviceCommand::Create(args) => shown.show(&create(&client, args)?),
        DeviceCommand::List { application, state, text } => {
            let mut rows = client.all_like(&format!("{}/devices", applications(application)), text)?;
            rows.retain(|row| state.is_none_or(|state| state == standing(row)));
            Shown::many(remote, &LISTED).rows(&rows);
        }
        DeviceCommand::Get { application, device, show_code, export_root_keys, yes } => {
            let path = place(application, device);
            let keys = if *export_root_keys {
                sure(remote, *yes, &format!("exporting the root keys of `{device}`, which exposes them for ever"))?;
                Some(client.ask(Method::POST, &format!("{path}/export-root-keys"), Some(&json!({})))?)
            } else {
                None
            };
            let mut found = client.get(&path)?;
            if let (Some(Value::Object(keys)), Some(found)) = (keys, found.as_object_mut()) {
                found.extend(keys);
            }
            if *show_code {
                found["code"] = client.get(&format!("{}/code", place(application, device)))?;
            }
            shown.show(&found);
        }
        DeviceCommand::Set { application, device, name, label, code, no_code, presence } => {
            let path = place(application, device);
            let mut changed = None;
            if name.is_some() || label.is_some() {
                let uid = client.get(&path)?["uid"].as_str().unwrap_or_default().to_owned();
                let before = client.get(&format!("/api/device/{uid}"))?;
                renamed(&client, before, name.as_deref(), label.as_deref())?;
                changed = Some(client.get(&path)?);
            }
            if *no_code {
                changed = Some(client.ask(Method::DELETE, &format!("{path}/code"), None)?);
            } else if let Some(body) = code_body(code)? {
                changed = Some(client.ask(Method::PUT, &format!("{path}/code"), Some(&body))?);
            }
            if let Some(presence) = presence {
                let after = client.ask(Method::PUT, &path, Some(&json!({"presence": presence})))?;
                // A generated code is in the first answer only.
                match &mut changed {
                    Some(changed) => changed["presence"] = after["presence"].clone(),
                    None => changed = Some(after),
                }
            }
            let Some(changed) = changed else {
                return Err(Stop::usage(
                    "there is nothing to set",
                    "give --name, --label, --code, --generate-code, --no-code, a window or --presence",
                ));
            };
            warn(&changed);
            shown.show(&changed);
        }
        DeviceCommand::Delete { application, device, yes } => {
            sure(remote, *yes, &format!("removing the device `{device}` of `{application}`"))?;
            client.ask(Method::DELETE, &place(application, device), None)?;
            out::talk(format!("removed  {device}"));
        }
        DeviceCommand::Claim(args) => {
            if let Some(file) = &args.file {
                if args.dry_run {
                    return bulk::check(remote, file);
                }
                return bulk::claim(remote, &client, &args.application, file, args.report.as_deref());
            }
            let claimed = client.send(Method::POST, "/api/v3/edcs/claim", Some(&claim_body(args)?))?;
            if claimed.status >= 400 {
                return Err(claimed.refusal());
            }
            Shown::one(remote, &["application_ids.application_id", "device_id", "dev_eui", "join_eui"])
                .show(&claimed.body);
            if claimed.reason.as_deref() == Some("already_yours") {
                out::talk("it was yours already; nothing was changed");
            }
        }
        DeviceCommand::Unclaim { application, devices } => return unclaim(&client, application, devices),
        DeviceCommand::Token(TokenCommand::Rotate { application, device, yes }) => {
            sure(remote, *yes, &format!("ending the token of `{device}` and what it is connected by"))?;
            let path = format!("{}/rotate-token", place(application, device));
            Shown::one(remote, &["accessToken"]).show(&client.ask(Method::POST, &path, Some(&json!({})))?);
        }
        DeviceCommand::Freeze { application, device, reason } => {
            shown.show(&freeze(&client, application, device, true, reason.as_deref())?);
        }
        DeviceCommand::Unfreeze { application, device, reason } => {
            shown.show(&freeze(&client, application, device, false, reason.as_deref())?);
        }
    }
    Ok(Exit::Done)
}

fn standing(device: &Value) -> DeviceState {
    match (device["owner"].is_string(), device["frozen"] == true) {
        (true, _) => DeviceState::Claimed,
        (false, true) => DeviceState::Frozen,
        (false, false) => DeviceState::Open,
    }
}

fn create(client: &Client, args: &DeviceCreateArgs) -> Done<Value> {
    let mut body = Map::new();
    body.insert("id".to_owned(), args.device.as_str().into());
    for (name, value) in [
        ("name", &args.name),
        ("label", &args.label),
        ("devEui", &args.dev_eui),
        ("joinEui", &args.join_eui),
        ("serialNumber", &args.serial_number),
        ("externalId", &args.external_id),
    ] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.as_str().into());
        }
    }
    for (name, key) in [("appKey", &args.app_key), ("nwkKey", &args.nwk_key)] {
        let Some(key) = key else { continue };
        if !key.starts_with('@') && key != "-" {
            return Err(Stop::usage("a root key is no argument", "give @FILE, or - for standard input"));
        }
        body.insert(name.to_owned(), secret(key, "root key")?.into());
    }
    if let Some(code) = code_body(&args.code)? {
        body.insert("code".to_owned(), code);
    }
    let path = format!("{}/devices", applications(&args.application));
    let made = client.ask(Method::POST, &path, Some(&body.into()))?;
    warn(&made);
    Ok(made)
}

/// What the server says about a code that was just stored.
fn warn(device: &Value) {
    for warning in device["code"]["warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        out::talk(format!("warning: {warning}"));
    }
}

fn code_body(code: &CodeArgs) -> Done<Option<Value>> {
    let mut body = Map::new();
    if let Some(given) = &code.code {
        body.insert("value".to_owned(), secret(given, "code")?.into());
    }
    if let Some(style) = &code.generate_code {
        body.insert("generate".to_owned(), style.as_str().into());
    }
    for (name, time) in [("valid_from", &code.valid_from), ("valid_to", &code.valid_to)] {
        if let Some(time) = time {
            body.insert(name.to_owned(), instant(time)?.into());
        }
    }
    Ok((!body.is_empty()).then(|| body.into()))
}

fn claim_body(args: &DeviceClaimArgs) -> Done<Value> {
    let mut body = json!({"target_application_ids": {"application_id": args.application}});
    if let Some(device) = &args.device {
        body["target_device_id"] = device.as_str().into();
    }
    match (&args.qr, &args.dev_eui) {
        (Some(qr), _) => body["qr_code"] = STANDARD.encode(secret(qr, "text of the QR code")?).into(),
        (None, dev_eui) => {
            let code = secret(args.code.as_deref().unwrap_or_default(), "code")?;
            let code = claim_codes::code::ungrouped(&code).into_owned();
            body["authenticated_identifiers"] =
                json!({"dev_eui": dev_eui, "join_eui": args.join_eui, "authentication_code": code});
        }
    }
    Ok(body)
}

fn freeze(client: &Client, application: &str, device: &str, frozen: bool, reason: Option<&str>) -> Done<Value> {
    let mut body = json!({"frozen": frozen});
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    client.ask(Method::PUT, &place(application, device), Some(&body))
}

/// The Things Stack's route knows devices by their EUIs; one without is given back by its name.
fn give_back(client: &Client, application: &str, device: &str) -> Done {
    let path = format!("/api/v3/edcs/claim/{}/devices/{}", segment(application), segment(device));
    let answer = client.send(Method::DELETE, &path, None)?;
    if answer.name() == "no_euis" {
        let name = client.get(&place(application, device))?["name"].as_str().unwrap_or_default().to_owned();
        let path = format!("/api/customer/device/{}/claim", segment(&name));
        return client.ask(Method::DELETE, &path, None).map(drop);
    }
    if answer.status < 400 { Ok(()) } else { Err(answer.refusal()) }
}

/// Each by itself; 8 when some could not be given back.
fn unclaim(client: &Client, application: &str, devices: &[String]) -> Done<Exit> {
    let mut failed = Vec::new();
    for device in devices {
        match give_back(client, application, device) {
            Ok(()) => out::talk(format!("given back  {device}")),
            Err(stop) if matches!(stop.exit, Exit::NotFound | Exit::Conflict | Exit::Refused) => {
                out::talk(format!("refused  {device}: {}", stop.what));
                failed.push(stop);
            }
            Err(stop) => return Err(stop),
        }
    }
    Ok(match failed.pop() {
        None => Exit::Done,
        Some(stop) if failed.len() + 1 == devices.len() => stop.exit,
        Some(_) => Exit::Partly,
    })
}
