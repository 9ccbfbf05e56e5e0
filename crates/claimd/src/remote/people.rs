//! Customers, accounts, gateways' relations, and what happened.

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::{Client, segment};
use super::show::Shown;
use super::{Done, ended, member, sure};
use crate::cli::remote::{AccountCommand, AuditCommand, CustomerCommand, Ends, GatewayCommand, RemoteArgs, With};
use crate::out::{self, Exit};

const CUSTOMER: [&str; 2] = ["title", "id.id"];

pub(crate) fn customer(command: &With<CustomerCommand>) -> Exit {
    ended(try_customer(&command.remote, &command.verb))
}

fn try_customer(remote: &RemoteArgs, verb: &CustomerCommand) -> Done<Exit> {
    let client = Client::of(remote)?;
    match verb {
        CustomerCommand::Create { title } => {
            let made = client.ask(Method::POST, "/api/customer", Some(&json!({"title": title})))?;
            Shown::one(remote, &CUSTOMER).show(&made);
        }
        CustomerCommand::List => Shown::many(remote, &CUSTOMER).rows(&client.all("/api/customers")?),
        CustomerCommand::Get { title } => Shown::one(remote, &CUSTOMER).show(&by_title(&client, title)?),
        CustomerCommand::Delete { title, yes } => {
            let found = by_title(&client, title)?;
            sure(remote, *yes, &format!("removing the customer `{title}` and its accounts"))?;
            client.ask(Method::DELETE, &format!("/api/customer/{}", id(&found)), None)?;
            out::talk(format!("removed  {title}"));
        }
    }
    Ok(Exit::Done)
}

pub(super) fn by_title(client: &Client, title: &str) -> Done<Value> {
    client.named("/api/customers", "title", title, "customer", "see `claimd customer list`")
}

/// The id of ThingsBoard's things, which has their kind beside it.
pub(super) fn id(thing: &Value) -> String {
    member(thing, "id.id").and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(crate) fn account(command: &With<AccountCommand>) -> Exit {
    let AccountCommand::Create { email, customer } = &command.verb;
    ended(create_account(&command.remote, email, customer.as_deref()))
}

fn create_account(remote: &RemoteArgs, email: &str, customer: Option<&str>) -> Done<Exit> {
    let client = Client::of(remote)?;
    let body = match customer {
        None => json!({"email": email, "authority": "TENANT_ADMIN"}),
        Some(title) => {
            let customer = by_title(&client, title)?;
            json!({"email": email, "authority": "CUSTOMER_USER", "customerId": customer["id"]})
        }
    };
    let made = client.ask(Method::POST, "/api/user?sendActivationMail=false", Some(&body))?;
    let link = client.get(&format!("/api/user/{}/activationLink", id(&made)))?;
    let shown = json!({"email": made["email"], "authority": made["authority"], "activationLink": link});
    Shown::one(remote, &["email", "authority", "activationLink"]).show(&shown);
    out::talk("the link sets the password of this account; hand it over in private");
    Ok(Exit::Done)
}

pub(crate) fn gateway(command: &With<GatewayCommand>) -> Exit {
    let (ends, relate) = match &command.verb {
        GatewayCommand::Relate(ends) => (ends, true),
        GatewayCommand::Unrelate(ends) => (ends, false),
    };
    ended(relations(&command.remote, ends, relate))
}

fn relations(remote: &RemoteArgs, ends: &Ends, relate: bool) -> Done<Exit> {
    let client = Client::of(remote)?;
    let by_name = |name: &str| client.get(&format!("/api/tenant/devices?deviceName={}", segment(name)));
    let gateway = id(&by_name(&ends.gateway)?);
    for name in &ends.device {
        let device = id(&by_name(name)?);
        if relate {
            let end = |id: &str| json!({"entityType": "DEVICE", "id": id});
            let body = json!({"from": end(&gateway), "to": end(&device), "type": "Manages", "typeGroup": "COMMON"});
            client.ask(Method::POST, "/api/relation", Some(&body))?;
        } else {
            client.ask(
                Method::DELETE,
                &format!("/api/relation?fromId={gateway}&toId={device}&relationType=Manages"),
                None,
            )?;
        }
    }
    let what = if relate { "speaks for" } else { "speaks no more for" };
    out::talk(format!("{} {what} {} devices", ends.gateway, ends.device.len()));
    Ok(Exit::Done)
}

pub(crate) fn audit(command: &With<AuditCommand>) -> Exit {
    let AuditCommand::List { since, device } = &command.verb;
    ended(audit_rows(&command.remote, *since, device.as_deref()))
}

fn audit_rows(remote: &RemoteArgs, since: i64, device: Option<&str>) -> Done<Exit> {
    let client = Client::of(remote)?;
    let (mut rows, mut since) = (Vec::new(), since);
    loop {
        let page = client.get(&format!("/api/claimd/v1/audit?since={since}&limit=1000"))?["data"].clone();
        let page = page.as_array().cloned().unwrap_or_default();
        let Some(last) = page.last().and_then(|row| row["seq"].as_i64()) else { break };
        since = last;
        rows.extend(page.into_iter().filter(|row| device.is_none_or(|device| row["device"] == device)));
    }
    Shown::many(remote, &["seq", "at", "actor", "action", "outcome", "reason", "device"]).rows(&rows);
    Ok(Exit::Done)
}
