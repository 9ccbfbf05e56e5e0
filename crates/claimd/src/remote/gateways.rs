//! Gateways, and the devices they speak for.

use std::path::Path;

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, segment};
use super::people::id;
use super::show::Shown;
use super::{Done, Stop, ended, sure};
use crate::cli::remote::gateways::{Ends, GatewayCommand};
use crate::cli::remote::{RemoteArgs, With};
use crate::out::{self, Exit};

const GATEWAY: [&str; 5] = ["name", "label", "type", "customerId.id", "id.id"];

pub(crate) fn gateway(command: &With<GatewayCommand>) -> Exit {
    ended(try_gateway(&command.remote, &command.verb))
}

fn try_gateway(remote: &RemoteArgs, verb: &GatewayCommand) -> Done<Exit> {
    let client = Client::of(remote)?;
    let shown = Shown::one(remote, &GATEWAY);
    match verb {
        GatewayCommand::Create { name, label } => {
            let body = json!({"name": name, "label": label, "additionalInfo": {"gateway": true}});
            let mut made = client.ask(Method::POST, "/api/device", Some(&body))?;
            // A generated token is shown by the first look at it, which is this one.
            let token = client.get(&format!("/api/device/{}/credentials", id(&made)))?["credentialsId"].clone();
            made["accessToken"] = token;
            Shown::one(remote, &["name", "label", "accessToken", "id.id"]).show(&made);
        }
        GatewayCommand::List { text } => {
            Shown::many(remote, &GATEWAY).rows(&client.all_like("/api/claimd/v1/gateways", text)?);
        }
        GatewayCommand::Get { name } => shown.show(&by_name(&client, name)?),
        GatewayCommand::Children { name } => {
            let path = format!("/api/claimd/v1/gateways/{}/devices", id(&by_name(&client, name)?));
            Shown::many(remote, &GATEWAY).rows(&client.all(&path)?);
        }
        GatewayCommand::Set { name, new_name, label } => {
            let found = by_name(&client, name)?;
            shown.show(&renamed(&client, found, new_name.as_deref(), label.as_deref())?);
        }
        GatewayCommand::Delete { name, yes } => {
            let found = by_name(&client, name)?;
            sure(remote, *yes, &format!("removing the gateway `{name}` and what it is connected by"))?;
            client.ask(Method::DELETE, &format!("/api/device/{}", id(&found)), None)?;
            out::talk(format!("removed  {name}"));
        }
        GatewayCommand::Relate(ends) => relations(&client, ends, true)?,
        GatewayCommand::Unrelate(ends) => relations(&client, ends, false)?,
    }
    Ok(Exit::Done)
}

/// A device of the tenant, by its name.
fn named(client: &Client, name: &str) -> Done<Value> {
    let answer = client.send(Method::GET, &format!("/api/tenant/devices?deviceName={}", segment(name)), None)?;
    match answer.status {
        404 => Err(Stop::new(
            Exit::NotFound,
            format!("there is no device named `{name}`"),
            "a name may differ from the id",
        )),
        400.. => Err(answer.refusal()),
        _ => Ok(answer.body),
    }
}

fn by_name(client: &Client, name: &str) -> Done<Value> {
    let found = named(client, name)?;
    if found["additionalInfo"]["gateway"] == true {
        return Ok(found);
    }
    Err(Stop::new(Exit::NotFound, format!("`{name}` is no gateway"), "see `claimd gateway list`"))
}

/// A device with another name or label; an empty label is none.
pub(super) fn renamed(client: &Client, mut device: Value, name: Option<&str>, label: Option<&str>) -> Done<Value> {
    if let Some(name) = name {
        device["name"] = name.into();
    }
    if let Some(label) = label {
        device["label"] = label.into();
    }
    client.ask(Method::POST, "/api/device", Some(&device))
}

fn relations(client: &Client, ends: &Ends, relate: bool) -> Done {
    let names = match &ends.file {
        None => ends.device.clone(),
        Some(file) => lines(file)?,
    };
    let gateway = id(&by_name(client, &ends.gateway)?);
    // All are found before the first is related, so that a slip of the pen changes nothing.
    let ids = names.iter().map(|name| Ok(id(&named(client, name)?))).collect::<Done<Vec<_>>>()?;
    for device in &ids {
        if relate {
            let end = |id: &str| json!({"entityType": "DEVICE", "id": id});
            let body = json!({"from": end(&gateway), "to": end(device), "type": "Manages", "typeGroup": "COMMON"});
            client.ask(Method::POST, "/api/relation", Some(&body))?;
        } else {
            let path = format!("/api/relation?fromId={gateway}&toId={device}&relationType=Manages");
            client.ask(Method::DELETE, &path, None)?;
        }
    }
    let what = if relate { "speaks for" } else { "speaks no more for" };
    let devices = if ids.len() == 1 { "device" } else { "devices" };
    out::talk(format!("{} {what} {} {devices}", ends.gateway, ids.len()));
    Ok(())
}

/// A name a line; empty lines are none.
fn lines(file: &Path) -> Done<Vec<String>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Stop::usage(format!("`{}` cannot be read: {error}", file.display()), "give a name a line"))?;
    let names: Vec<String> = text.lines().map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(Stop::usage(format!("`{}` names no device", file.display()), "give a name a line"));
    }
    Ok(names)
}
