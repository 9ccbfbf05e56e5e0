//! Customers, and what people are given to sign in by.

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::Client;
use super::show::Shown;
use super::{Done, ended, member, sure};
use crate::cli::remote::{CustomerCommand, RemoteArgs, With};
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
        CustomerCommand::Set { title, new_title } => {
            let mut customer = by_title(&client, title)?;
            customer["title"] = new_title.as_str().into();
            Shown::one(remote, &CUSTOMER).show(&client.ask(Method::POST, "/api/customer", Some(&customer))?);
        }
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

/// A fresh link by which an account's user sets the first password.
pub(super) fn activation_link(client: &Client, account: &Value) -> Done<Value> {
    client.get(&format!("/api/user/{}/activationLink", id(account)))
}
