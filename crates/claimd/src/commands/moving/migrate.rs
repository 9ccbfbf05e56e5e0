//! `claimd migrate status` and `claimd migrate up`.

use std::sync::Arc;

use registry::moving::Standing;
use serde_json::json;

use super::{Done, Place, ended, failed, refused, store};
use crate::build;
use crate::cli::moving::{MigrateCommand, StoreArgs};
use crate::out::{self, Exit};

pub(crate) fn migrate(command: &MigrateCommand) -> Exit {
    ended(match command {
        MigrateCommand::Status(args) => status(args),
        MigrateCommand::Up(args) => up(args),
        MigrateCommand::Store(args) => store::run(args),
    })
}

fn status(args: &StoreArgs) -> Done {
    let place = Place::of(args)?;
    let standing = place.store.standing().map_err(|error| failed(&error))?;
    let (kind, known) = place.store.kind();
    let (state, schema) = match standing {
        Standing::Nothing => ("empty", None),
        Standing::Schema { found, .. } => ("registry", Some(found)),
        Standing::Newer { found, .. } => ("newer", Some(found)),
        Standing::Unfinished => ("unfinished", None),
        Standing::Moved => ("moved", None),
    };
    let pending: Vec<i64> = match standing {
        Standing::Schema { found, known } => (found + 1..=known).collect(),
        _ => Vec::new(),
    };
    let steps = match (standing, pending.as_slice()) {
        (Standing::Schema { .. }, []) => "nothing is pending".to_owned(),
        (Standing::Schema { .. }, [first, ..]) => {
            format!("steps {first} to {known} are pending: {}", standing.next())
        }
        _ => standing.next().to_owned(),
    };
    place.say(
        &json!({
            "store": place.store.place(),
            "kind": kind,
            "state": state,
            "schema": schema,
            "known": known,
            "pending": pending,
        }),
        &[("store", format!("{} ({kind})", place.store.place())), ("state", standing.to_string()), ("next", steps)],
    );
    Ok(Exit::Done)
}

fn up(args: &StoreArgs) -> Done {
    let place = Place::of(args)?;
    // Nodes on PostgreSQL may run meanwhile: adjacent versions work with each other's schema.
    let lock = place.store.sqlite_path().map(|_| build::lock(&place.data_dir)).transpose();
    let _lock = lock.map_err(|fault| refused(&fault))?;
    let standing = place.store.standing().map_err(|error| failed(&error))?;
    let Standing::Schema { found, known } = standing else {
        out::error(format!("the registry {} {standing}", place.store.place()), standing.next());
        return Err(Exit::Usage);
    };
    let keys = place.keys()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| {
        out::error(format!("cannot start: {error}"), "raise the limit of threads");
        Exit::Unavailable
    })?;
    // As a server opens it, which also makes what an older one did not have.
    let opened = runtime.block_on(async {
        let registry = build::open_registry(&place.settings, &place.data_dir, &keys).await?;
        Arc::clone(&registry).end().await;
        Ok(())
    });
    opened.map_err(|fault| refused(&fault))?;
    place.say(
        &json!({"result": "up to date", "store": place.store.place(), "before": found, "schema": known}),
        &[("up to date", format!("{}: schema {found} before, {known} now", place.store.place()))],
    );
    Ok(Exit::Done)
}
