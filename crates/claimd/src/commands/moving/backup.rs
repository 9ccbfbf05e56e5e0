//! `claimd backup` and `claimd restore`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claim::Timestamp;
use claim_cache::Backend;
use registry::moving::{ChainState, Note, Restore, Restored, back_up as write_backup};
use serde_json::json;

use super::{Done, Place, Shown, ended, failed, refused};
use crate::build;
use crate::cli::moving::{BackupArgs, RestoreArgs};
use crate::out::{self, Exit};

pub(crate) fn back_up(args: &BackupArgs) -> Exit {
    ended(backed_up(args))
}

fn backed_up(args: &BackupArgs) -> Done {
    let place = Place::of(&args.store)?;
    let mut shown = Shown::new(args.progress, place.store.count().ok());
    let note = Note {
        claimd: env!("CARGO_PKG_VERSION").to_owned(),
        created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
    };
    let manifest = write_backup(&place.store, &args.to, &note, &mut shown);
    shown.end();
    let manifest = manifest.map_err(|error| failed(&error))?;
    let bytes: u64 = manifest.tables.iter().map(|table| table.bytes).sum();
    let (rows, tables) = (out::grouped(manifest.rows()), manifest.tables.len());
    let to = args.to.display().to_string();
    let mut said = json!(manifest);
    said["backup"] = to.as_str().into();
    place.say(
        &said,
        &[
            ("backup", to),
            ("of", place.store.place()),
            ("rows", format!("{rows} in {tables} tables, {} bytes, read back and verified", out::grouped(bytes))),
            ("audit log", chain(&manifest.audit)),
        ],
    );
    let key = place.settings.server.key_file();
    out::talk(format!("the master key {} is not in it: keep a copy apart from the backup", key.display()));
    out::talk("without that key nobody can use the backup; pending claims are not in it either");
    Ok(told(&manifest.audit))
}

fn chain(audit: &ChainState) -> String {
    match &audit.broken {
        None => format!("whole, {} rows sealed, {} not yet", out::grouped(audit.sealed), out::grouped(audit.unsealed)),
        Some((seq, what)) => format!("broken at row {seq}: {what}"),
    }
}

/// A broken log is worth an exit code of its own.
fn told(audit: &ChainState) -> Exit {
    if audit.broken.is_none() {
        return Exit::Done;
    }
    let next = "compare it with earlier exports: `claimd audit verify --file`";
    out::error(format!("the audit log is {}", chain(audit)), next);
    Exit::Partly
}

pub(crate) fn restore(args: &RestoreArgs) -> Exit {
    ended(restored(args))
}

fn restored(args: &RestoreArgs) -> Done {
    let place = Place::of(&args.store)?;
    // No server runs on the folder meanwhile.
    let _lock = build::lock(&place.data_dir).map_err(|fault| refused(&fault))?;
    let keys = place.keys()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut shown = Shown::new(args.progress, None);
    let restore = Restore {
        master: &keys.newest,
        before: keys.before.as_ref(),
        now: Timestamp::from_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)),
        revoke_codes: args.revoke_codes,
        accept_broken_audit: args.accept_broken_audit,
        dry_run: args.dry_run,
    };
    let restored = restore.run(&args.from, &place.store, &mut shown);
    shown.end();
    let restored = restored.map_err(|error| failed(&error))?;
    if !args.dry_run {
        drop_pending(&place)?;
    }
    let did = if args.dry_run { "would restore" } else { "restored" };
    place.say(
        &json!({
            "result": did,
            "store": place.store.place(),
            "rows": restored.rows,
            "codesLive": restored.codes_live,
            "codesRevoked": restored.codes_revoked,
            "audit": restored.audit,
        }),
        &[
            (did, format!("{} rows to {}", out::grouped(restored.rows), place.store.place())),
            ("audit log", chain(&restored.audit)),
            ("codes", format!("{} live, {} revoked", restored.codes_live, restored.codes_revoked)),
        ],
    );
    say_what_it_means(&place, args, &restored);
    Ok(told(&restored.audit))
}

fn say_what_it_means(place: &Place, args: &RestoreArgs, restored: &Restored) {
    out::talk("what devices announced before this moment is void, and everybody signs in again");
    out::talk("owners, passwords, API keys and device tokens are those of the backup: what changed since is undone");
    if restored.codes_live > 0 {
        let codes = restored.codes_live;
        out::talk(format!("warning: {codes} claim codes live, also those that were spent since the backup"));
        out::talk(if args.dry_run {
            "next  say --revoke-codes to let none of them live"
        } else {
            "next  delete one with `claimd device set APPLICATION ID --no-code`; to let none live, restore into an empty \
             store with --revoke-codes"
        });
    }
    if place.settings.claim_cache.backend == Backend::Redis && !args.dry_run {
        out::talk("the shared store may still show claims of before until they end; no owner can use them");
    }
}

/// The journal of what devices announced before. It is void, and would only be shown as pending.
fn drop_pending(place: &Place) -> Done<()> {
    let journal = place.data_dir.join(claim_cache::journal::FOLDER);
    match std::fs::remove_dir_all(&journal) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            out::error(format!("{}: {error}", journal.display()), "remove it before the server starts");
            Err(Exit::Partly)
        }
        _ => Ok(()),
    }
}
