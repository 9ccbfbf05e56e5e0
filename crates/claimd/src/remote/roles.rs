//! Roles, and the groups of customers' users that have them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::Client;
use super::people::id;
use super::show::Shown;
use super::{Done, Stop, ended, sure};
use crate::cli::remote::roles::{GroupCommand, GroupName, RoleCommand};
use crate::cli::remote::{RemoteArgs, With};
use crate::out::{self, Exit};

const ROLES: &str = "/api/claimd/v1/roles";
const ROLE: [&str; 4] = ["name", "permissions", "createdAt", "id"];
const GROUP: [&str; 4] = ["name", "roles", "createdAt", "id"];

pub(crate) fn role(command: &With<RoleCommand>) -> Exit {
    ended(try_role(&command.remote, &command.verb))
}

fn try_role(remote: &RemoteArgs, verb: &RoleCommand) -> Done<Exit> {
    let client = Client::of(remote)?;
    match verb {
        RoleCommand::Create { name, grant } => {
            let body = json!({"name": name, "type": "GENERIC", "permissions": permissions(grant)?});
            Shown::one(remote, &ROLE).show(&client.ask(Method::POST, ROLES, Some(&body))?);
        }
        RoleCommand::List => Shown::many(remote, &ROLE).rows(&client.all(ROLES)?),
        RoleCommand::Get { name } => Shown::one(remote, &ROLE).show(&named_role(&client, name)?),
        RoleCommand::Delete { name, yes } => {
            let found = named_role(&client, name)?;
            sure(remote, *yes, &format!("removing the role `{name}` from all groups that have it"))?;
            client.ask(Method::DELETE, &format!("{ROLES}/{}", plain_id(&found)), None)?;
            out::talk(format!("removed  {name}"));
        }
    }
    Ok(Exit::Done)
}

/// `DEVICE:CLAIM_DEVICES` and the like, by resource.
fn permissions(grants: &[String]) -> Done<BTreeMap<&str, Vec<&str>>> {
    let mut permissions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for grant in grants {
        let (resource, operation) = grant
            .split_once(':')
            .ok_or_else(|| Stop::usage(format!("`{grant}` is no grant"), "write it like DEVICE:CLAIM_DEVICES"))?;
        permissions.entry(resource).or_default().push(operation);
    }
    Ok(permissions)
}

fn named_role(client: &Client, name: &str) -> Done<Value> {
    client.named(ROLES, "name", name, "role", "see `claimd role list`")
}

/// The id of our own things, which is a text.
fn plain_id(thing: &Value) -> &str {
    thing["id"].as_str().unwrap_or_default()
}

pub(crate) fn group(command: &With<GroupCommand>) -> Exit {
    ended(try_group(&command.remote, &command.verb))
}

fn try_group(remote: &RemoteArgs, verb: &GroupCommand) -> Done<Exit> {
    let client = Client::of(remote)?;
    match verb {
        GroupCommand::Create(GroupName { customer, group }) => {
            let path = groups_of(&client, customer)?;
            Shown::one(remote, &GROUP).show(&client.ask(Method::POST, &path, Some(&json!({"name": group})))?);
        }
        GroupCommand::List { customer } => {
            Shown::many(remote, &GROUP).rows(&client.all(&groups_of(&client, customer)?)?);
        }
        GroupCommand::Users(at) => {
            let users = client.all(&format!("{}/users", path(&client, at)?))?;
            Shown::many(remote, &["email", "firstName", "lastName", "id.id"]).rows(&users);
        }
        GroupCommand::Delete { at, yes } => {
            let path = path(&client, at)?;
            sure(remote, *yes, &format!("removing the group `{}` of `{}`", at.group, at.customer))?;
            client.ask(Method::DELETE, &path, None)?;
            out::talk(format!("removed  {}", at.group));
        }
        GroupCommand::Add { at, users } => {
            members(&client, at, users, &Method::PUT)?;
            out::talk(format!("{} has {} more", at.group, people(users.len())));
        }
        GroupCommand::Remove { at, users } => {
            members(&client, at, users, &Method::DELETE)?;
            out::talk(format!("{} has {} less", at.group, people(users.len())));
        }
        GroupCommand::Grant { at, role } => {
            held(&client, at, role, Method::PUT)?;
            out::talk(format!("{} has the role {role}", at.group));
        }
        GroupCommand::Revoke { at, role } => {
            held(&client, at, role, Method::DELETE)?;
            out::talk(format!("{} has the role {role} no more", at.group));
        }
    }
    Ok(Exit::Done)
}

fn people(count: usize) -> String {
    if count == 1 { "1 user".to_owned() } else { format!("{count} users") }
}

fn groups_of(client: &Client, customer: &str) -> Done<String> {
    Ok(format!("/api/claimd/v1/customers/{}/groups", id(&super::people::by_title(client, customer)?)))
}

fn path(client: &Client, at: &GroupName) -> Done<String> {
    let groups = groups_of(client, &at.customer)?;
    let found = client.named(&groups, "name", &at.group, "group", "see `claimd group list`")?;
    Ok(format!("{groups}/{}", plain_id(&found)))
}

/// All are found before the first is put in or taken out.
fn members(client: &Client, at: &GroupName, users: &[String], method: &Method) -> Done {
    let path = path(client, at)?;
    let customer = super::people::by_title(client, &at.customer)?;
    let of_customer = format!("/api/customer/{}/users", id(&customer));
    let find = |email: &String| {
        let found = client.named(&of_customer, "email", &email.to_lowercase(), "account", "see `claimd account list`");
        Ok(id(&found?))
    };
    let ids = users.iter().map(find).collect::<Done<Vec<_>>>()?;
    for user in ids {
        client.ask(method.clone(), &format!("{path}/users/{user}"), None)?;
    }
    Ok(())
}

fn held(client: &Client, at: &GroupName, role: &str, method: Method) -> Done {
    let role = named_role(client, role)?;
    client.ask(method, &format!("{}/roles/{}", path(client, at)?, plain_id(&role)), None)?;
    Ok(())
}
