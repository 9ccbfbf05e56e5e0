//! A registry with something in every column of every table, made from the list of tables and the schema: a table or a column
//! that comes later is filled too.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use claim::Secret;
use testkit::postgres::PostgresServer;

use super::super::tables::{Column, Kind, Table};
use super::*;
use crate::keys::SEALED;
use crate::sealing::Sealer;

/// Rows of a table. The last has nothing where nothing may be.
const ROWS: i64 = 5;

fn server() -> &'static PostgresServer {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    SERVER.get_or_init(PostgresServer::start)
}

/// A database of its own.
pub(super) fn another_postgres() -> Store {
    let config = PostgresConfig::new(Secret::new(server().url(&server().database())));
    Store::Postgres { config, patience: PATIENCE }
}

/// The same rows in a database.
pub(super) fn fill_postgres(from: &Store, to: &Store) {
    let (Store::Sqlite(path), Store::Postgres { config, patience }) = (from, to) else { unreachable!() };
    let mut target = postgres::PostgresTarget::make(config, *patience, true).unwrap();
    let mut rows = sqlite::SqliteRows::open(path).unwrap();
    for table in &TABLES {
        let page = rows.page(table, None, PAGE).unwrap();
        assert!(target.insert(table, &page).unwrap(), "{}", table.name);
    }
    target.finish(&[]).unwrap();
}

/// A file in a folder of its own, sealed under `master(1)`.
pub(super) fn filled(folder: &Path) -> Store {
    fs::create_dir_all(folder).unwrap();
    let open = || SqliteRegistry::open(&Config::default(), folder, &master(1), None, PATIENCE).unwrap();
    // Makes the root of the keyring.
    open().close();
    let path = folder.join("registry.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
    let sealer = Sealer::new(&master(1), None);
    for table in TABLES.iter().filter(|table| !matches!(table.name, "install_secret" | "audit_chain")) {
        let optional: Vec<String> = connection
            .prepare("SELECT name FROM pragma_table_info(?1) WHERE NOT \"notnull\"")
            .unwrap()
            .query_map([table.name], |row| row.get(0))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        for n in 0..ROWS {
            insert(&connection, table, &row(table, n, &optional, &sealer));
        }
    }
    drop(connection);
    // Chains the audit log.
    open().close();
    Store::Sqlite(path)
}

pub(super) fn insert(connection: &rusqlite::Connection, table: &Table, row: &[Value]) {
    let names: Vec<&str> = table.columns.iter().map(|column| table.sqlite_name(column)).collect();
    let places = vec!["?"; names.len()].join(", ");
    let sql = format!("INSERT INTO {} ({}) VALUES ({places})", table.name, names.join(", "));
    connection.execute(&sql, rusqlite::params_from_iter(row)).unwrap_or_else(|error| panic!("{}: {error}", table.name));
}

/// The `n`th row of a table.
pub(super) fn row(table: &'static Table, n: i64, optional: &[String], sealer: &Sealer) -> Row {
    // Where SQLite would let nothing be and PostgreSQL would not, since a migration filled it.
    const ALWAYS: [&str; 4] = ["home_application", "home_listing", "application", "listing"];
    let nothing = |column: &Column| {
        n == ROWS - 1
            && optional.iter().any(|name| name == column.name)
            && !table.key_columns().iter().any(|key| key.name == column.name)
            && !(table.name == "device" && ALWAYS.contains(&column.name))
            && column.name != "rid"
    };
    let value = |column: &Column| if nothing(column) { Value::Null } else { value(table, column, n) };
    let mut row: Row = table.columns.iter().map(value).collect();
    for sealed in SEALED.iter().filter(|sealed| sealed.name.split_once('.').is_some_and(|(name, _)| name == table.name))
    {
        let position = table.position(sealed.name.split_once('.').unwrap().1).unwrap();
        let mut bound = sealed.label.to_vec();
        let ids: HashMap<&str, Value> = table.columns.iter().map(|c| c.name).zip(row.iter().cloned()).collect();
        let parts: Vec<Value> = match table.name {
            "signing_key" => vec![ids["kid"].clone()],
            "credential" => vec![Value::Id(id("tenant", n)), ids["device"].clone(), ids["id"].clone()],
            "import_batch" => vec![Value::Id(id("tenant", n)), Value::Id(id("import", n))],
            _ => vec![ids["tenant"].clone(), ids["id"].clone()],
        };
        for part in &parts {
            match part {
                Value::Id(id) => bound.extend_from_slice(id),
                Value::Text(text) => bound.extend_from_slice(text.as_bytes()),
                other => panic!("{other:?}"),
            }
        }
        if row[position] != Value::Null {
            row[position] = Value::Bytes(sealer.seal(&[&bound], b"MARKED-SECRET").unwrap());
        }
    }
    row
}

pub(super) fn id(table: &str, n: i64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(table.bytes().map(u64::from).sum::<u64>() << 8).to_be_bytes());
    // Not in the order of their making.
    id[8..].copy_from_slice(&(n ^ 3).to_be_bytes());
    id
}

/// Which table an id of this name is of.
fn referred<'t>(table: &'t str, column: &'t str) -> &'t str {
    match (table, column) {
        (_, "id") => table,
        (_, "owner") => "customer",
        ("relation", "gateway") | (_, "created_by" | "device") => "device",
        (_, "home_application") => "application",
        (_, "actor") => "account",
        (_, other) => other,
    }
}

fn value(table: &Table, column: &Column, n: i64) -> Value {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let unlike = NEXT.fetch_add(1, Ordering::Relaxed);
    match (column.kind, column.name) {
        (Kind::Id, name) => Value::Id(id(referred(table.name, name), n)),
        (Kind::Whole, "rid" | "job" | "seq") => Value::Whole(n + 1),
        (Kind::Whole, _) => Value::Whole(1_700_000_000_000 + n),
        (Kind::Flag, _) => Value::Flag((n + unlike as i64) % 2 == 0),
        (Kind::Text, name) => Value::Text(format!("{name} {n} \"{unlike}\" \u{1F511}\n")),
        (Kind::Bytes, _) => Value::Bytes((0..32).map(|at| (unlike >> (at % 8)) as u8 ^ at).collect()),
    }
}
