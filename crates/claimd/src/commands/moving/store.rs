//! `claimd migrate store`: from SQLite to PostgreSQL. The copy is made while the server runs; the last of it when nobody writes,
//! which is when this command has the data folder and no server has it.

use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use claim::Secret;
use registry::PostgresConfig;
use registry::moving::{Follow, Pass, Standing, undo};
use serde_json::json;

use super::{Done, Place, Shown, failed, refused};
use crate::build;
use crate::cli::moving::MoveArgs;
use crate::out::{self, Exit};

/// Passes when nobody writes: one that puts right, one that compares, and a few for what fits only after another.
const LAST_PASSES: u32 = 10;
/// Between looks whether the server is gone.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(args: &MoveArgs) -> Done {
    let place = Place::of(&args.store)?;
    let Some(source) = place.store.sqlite_path() else {
        out::error("`registry.backend` is postgres already", "run this with the settings of the SQLite server");
        return Err(Exit::Usage);
    };
    if args.undo {
        return back(&place, source, args.yes);
    }
    let config = target(&place, args)?;
    if args.dry_run {
        return look(&place, source, &config, args);
    }
    let keys = place.keys()?;
    let mut lock = build::try_lock(&place.data_dir).map_err(|fault| refused(&fault))?;
    let patience = place.settings.timeouts.store;
    let started = Instant::now();
    let mut shown = Shown::new(args.progress, place.store.count().ok());
    let follow = Follow::start(source, &config, patience, (&keys.newest, keys.before.as_ref()), args.afresh);
    let mut follow = follow.map_err(|error| failed(&error))?;
    let mut still = started;
    if lock.is_none() {
        pass(&mut follow, &mut shown)?;
        // Compares what was copied, so that the last passes need not read all of the log again; and tells how long they take.
        let began = Instant::now();
        let copied = pass(&mut follow, &mut shown)?;
        let passing = began.elapsed().as_secs_f64();
        let took = started.elapsed().as_secs_f64();
        out::talk(format!("copied {} rows in {took:.1} s while the server runs", out::grouped(copied.rows())));
        out::talk(format!("next  stop the server now; the rest follows by itself, in about {:.1} s", 2.0 * passing));
        lock = Some(wait_for_the_folder(&place, args.wait, &shown)?);
        still = Instant::now();
    }
    let mut last = None;
    for _ in 0..LAST_PASSES {
        let done = pass(&mut follow, &mut shown)?;
        if done.equal() {
            last = Some(done);
            break;
        }
    }
    let Some(last) = last else {
        let next = "look for what else writes to one of them, then run the same command again";
        out::error("both sides are still not the same", next);
        return Err(Exit::Unavailable);
    };
    follow.finish().map_err(|error| failed(&error))?;
    let still = still.elapsed();
    drop(lock);
    moved(&place, &config, args, &last, still);
    Ok(Exit::Done)
}

fn pass(follow: &mut Follow<'_>, shown: &mut Shown) -> Done<Pass> {
    let pass = follow.pass(shown);
    shown.end();
    pass.map_err(|error| failed(&error))
}

/// Where to: the address, as it is or in a file.
fn target(place: &Place, args: &MoveArgs) -> Done<PostgresConfig> {
    let given = args.to.as_deref().unwrap_or_default();
    let url = match given.strip_prefix('@') {
        None => given.to_owned(),
        Some(file) => std::fs::read_to_string(file).map_err(|error| {
            out::error(format!("`{file}` cannot be read: {error}"), "name a file with the address of the database");
            Exit::Usage
        })?,
    };
    // With the files of `registry.tls_…`, which are as good for the address to come.
    let mut config = place.settings.registry.postgres();
    config.url = Secret::new(url.trim().to_owned());
    if !given.starts_with('@') && config.has_password() {
        out::talk("warning: the password is in your shell's history now; give --to @FILE");
    }
    Ok(config)
}

/// `--dry-run`: both sides are looked at.
fn look(place: &Place, source: &Path, config: &PostgresConfig, args: &MoveArgs) -> Done {
    let mut shown = Shown::new(args.progress, place.store.count().ok());
    let looked = Follow::look(source, config, place.settings.timeouts.store, &mut shown);
    shown.end();
    let (tables, standing) = looked.map_err(|error| failed(&error))?;
    let rows: u64 = tables.iter().map(|table| table.rows).sum();
    let target = if standing == Standing::Unfinished { "unfinished copy" } else { "empty" };
    place.say(
        &json!({"result": "would move", "from": place.store.place(), "rows": rows, "target": target, "tables": tables}),
        &[
            (
                "would move",
                format!("{} rows of {} tables from {}", out::grouped(rows), tables.len(), place.store.place()),
            ),
            ("target", target.to_owned()),
        ],
    );
    Ok(Exit::Done)
}

/// Until no server has the folder.
fn wait_for_the_folder(place: &Place, patience: Duration, shown: &Shown) -> Done<File> {
    const AGAIN: &str = "run the same command again: it goes on where it was";
    let began = Instant::now();
    loop {
        if let Some(lock) = build::try_lock(&place.data_dir).map_err(|fault| refused(&fault))? {
            return Ok(lock);
        }
        if shown.stopped() {
            out::error("stopped; the server goes on as before", AGAIN);
            return Err(Exit::Stopped);
        }
        if began.elapsed() >= patience {
            out::error("the server still runs; nothing of it was changed", AGAIN);
            return Err(Exit::Conflict);
        }
        std::thread::sleep(LOOK);
    }
}

fn moved(place: &Place, config: &PostgresConfig, args: &MoveArgs, last: &Pass, still: Duration) {
    let backend = "registry.backend = \"postgres\"";
    let given = args.to.as_deref().unwrap_or_default();
    let url = match given.strip_prefix('@') {
        Some(file) => format!("CLAIMD_REGISTRY__URL_FILE={file}"),
        None if config.has_password() => "CLAIMD_REGISTRY__URL_FILE=FILE, with the address in it".to_owned(),
        None => format!("registry.url = \"{given}\""),
    };
    let (rows, tables) = (out::grouped(last.rows()), last.source.len());
    place.say(
        &json!({
            "result": "moved",
            "rows": last.rows(),
            "source": last.source,
            "target": last.target,
            "stoodStillMs": u64::try_from(still.as_millis()).unwrap_or(u64::MAX),
            "settings": [backend, url],
        }),
        &[
            ("moved", format!("{rows} rows of {tables} tables, every row compared, counts and hashes equal")),
            ("stood still", format!("{:.1} s, when no server could run", still.as_secs_f64())),
            ("set", backend.to_owned()),
            ("set", url),
        ],
    );
    let place = place.store.place();
    out::talk(format!("{place} is kept and marked as moved, so that no server starts on it"));
    out::talk("keep the master key, and the data folder with its journal of pending claims");
}

/// `--undo`.
fn back(place: &Place, source: &Path, yes: bool) -> Done {
    let _lock = build::lock(&place.data_dir).map_err(|fault| refused(&fault))?;
    let what = format!("making {} the registry again, without what changed in PostgreSQL since", source.display());
    let next = "say --yes to do it without being asked";
    if !yes && !std::io::stdin().is_terminal() {
        out::error(format!("{what} needs a yes"), next);
        return Err(Exit::Usage);
    }
    if !yes {
        out::talk(format!("{what}? Type yes to go on."));
        let mut answer = String::new();
        let _ = std::io::stdin().read_line(&mut answer);
        if answer.trim() != "yes" {
            out::error("nothing was changed", next);
            return Err(Exit::Refused);
        }
    }
    undo(source).map_err(|error| failed(&error))?;
    place.say(&json!({"result": "undone"}), &[("undone", format!("{} is the registry again", source.display()))]);
    out::talk("start no server on PostgreSQL any more: two registries of one install would soon differ");
    Ok(Exit::Done)
}
