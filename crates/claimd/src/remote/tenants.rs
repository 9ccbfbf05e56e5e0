//! Tenants, for those who run the install.

use serde_json::{Value, json};
use ureq::http::Method;

use super::client::Client;
use super::people::{activation_link, id};
use super::show::Shown;
use super::{Done, Stop, ended, sure};
use crate::cli::remote::tenants::TenantCommand;
use crate::cli::remote::{RemoteArgs, With};
use crate::out::{self, Exit};

const TENANT: [&str; 3] = ["title", "createdTime", "id.id"];

pub(crate) fn tenant(command: &With<TenantCommand>) -> Exit {
    ended(try_tenant(&command.remote, &command.verb))
}

fn try_tenant(remote: &RemoteArgs, verb: &TenantCommand) -> Done<Exit> {
    let client = Client::of(remote)?;
    match verb {
        TenantCommand::Create { title, admin } => create(remote, &client, title, admin)?,
        TenantCommand::List => Shown::many(remote, &TENANT).rows(&client.all("/api/tenants")?),
        TenantCommand::Get { title } => Shown::one(remote, &TENANT).show(&by_title(&client, title)?),
        TenantCommand::Set { title, new_title } => {
            let body = json!({"id": by_title(&client, title)?["id"], "title": new_title});
            Shown::one(remote, &TENANT).show(&client.ask(Method::POST, "/api/tenant", Some(&body))?);
        }
        TenantCommand::Delete { title, yes } => {
            let found = by_title(&client, title)?;
            sure(remote, *yes, &format!("removing the tenant `{title}` with its devices, customers and accounts"))?;
            client.ask(Method::DELETE, &format!("/api/tenant/{}", id(&found)), None)?;
            out::talk(format!("removed  {title}"));
        }
    }
    Ok(Exit::Done)
}

fn by_title(client: &Client, title: &str) -> Done<Value> {
    client.named("/api/tenants", "title", title, "tenant", "see `claimd tenant list`")
}

/// The tenant, then its admin. A tenant whose admin cannot be made is taken back: nobody could ever sign in there.
fn create(remote: &RemoteArgs, client: &Client, title: &str, admin: &str) -> Done {
    let tenant = client.ask(Method::POST, "/api/tenant", Some(&json!({"title": title})))?;
    let body = json!({"email": admin, "authority": "TENANT_ADMIN", "tenantId": tenant["id"]});
    let account = match client.ask(Method::POST, "/api/user?sendActivationMail=false", Some(&body)) {
        Ok(account) => account,
        Err(stop) => {
            let undone = client.ask(Method::DELETE, &format!("/api/tenant/{}", id(&tenant)), None).is_ok();
            let next =
                if undone { "the tenant was not made" } else { "the tenant is there without an admin; remove it" };
            return Err(Stop { next: next.to_owned(), ..stop });
        }
    };
    let link = activation_link(client, &account)?;
    let shown =
        json!({"title": tenant["title"], "id": tenant["id"], "admin": account["email"], "activationLink": link});
    Shown::one(remote, &["title", "admin", "activationLink", "id.id"]).show(&shown);
    out::talk("the link sets the password of this account; hand it over in private");
    Ok(())
}
