//! Accounts of people, found by their sign-in names.

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::Client;
use super::people::{activation_link, by_title, id};
use super::show::Shown;
use super::{Done, ended, sure};
use crate::cli::remote::accounts::AccountCommand;
use crate::cli::remote::{RemoteArgs, With};
use crate::out::{self, Exit};

const ACCOUNT: [&str; 6] = ["email", "authority", "firstName", "lastName", "customerId.id", "id.id"];

pub(crate) fn account(command: &With<AccountCommand>) -> Exit {
    ended(try_account(&command.remote, &command.verb))
}

fn try_account(remote: &RemoteArgs, verb: &AccountCommand) -> Done<Exit> {
    let client = Client::of(remote)?;
    match verb {
        AccountCommand::Create { email, customer } => create(remote, &client, email, customer.as_deref())?,
        AccountCommand::List { customer, text } => {
            let path = match customer {
                None => "/api/users".to_owned(),
                Some(title) => format!("/api/customer/{}/users", id(&by_title(&client, title)?)),
            };
            Shown::many(remote, &ACCOUNT).rows(&client.all_like(&path, text)?);
        }
        AccountCommand::Get { email } => Shown::one(remote, &ACCOUNT).show(&by_email(&client, email)?),
        AccountCommand::Set { email, first_name, last_name } => {
            let mut account = by_email(&client, email)?;
            for (member, name) in [("firstName", first_name), ("lastName", last_name)] {
                if let Some(name) = name {
                    account[member] = if name.is_empty() { Value::Null } else { name.as_str().into() };
                }
            }
            Shown::one(remote, &ACCOUNT).show(&client.ask(Method::POST, "/api/user", Some(&account))?);
        }
        AccountCommand::Delete { email, yes } => {
            let found = by_email(&client, email)?;
            sure(remote, *yes, &format!("removing the account `{email}` with its sessions and keys"))?;
            client.ask(Method::DELETE, &format!("/api/user/{}", id(&found)), None)?;
            out::talk(format!("removed  {email}"));
        }
    }
    Ok(Exit::Done)
}

/// Sign-in names are kept in lower case.
fn by_email(client: &Client, email: &str) -> Done<Value> {
    client.named("/api/users", "email", &email.to_lowercase(), "account", "see `claimd account list`")
}

fn create(remote: &RemoteArgs, client: &Client, email: &str, customer: Option<&str>) -> Done {
    let body = match customer {
        None => json!({"email": email, "authority": "TENANT_ADMIN"}),
        Some(title) => {
            let customer = by_title(client, title)?;
            json!({"email": email, "authority": "CUSTOMER_USER", "customerId": customer["id"]})
        }
    };
    let made = client.ask(Method::POST, "/api/user?sendActivationMail=false", Some(&body))?;
    let link = activation_link(client, &made)?;
    let shown = json!({"email": made["email"], "authority": made["authority"], "activationLink": link});
    Shown::one(remote, &["email", "authority", "activationLink"]).show(&shown);
    out::talk("the link sets the password of this account; hand it over in private");
    Ok(())
}
