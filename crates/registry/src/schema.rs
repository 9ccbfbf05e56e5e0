//! Migrations: numbered SQL, applied in order, each in a transaction with its version row. An older binary refuses a
//! newer schema.

use rusqlite::Connection;

use crate::moving::Standing;

/// Every migration, oldest first; the position is the version.
const MIGRATIONS: [&str; 11] = [
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_applications.sql"),
    include_str!("migrations/0003_api_keys.sql"),
    include_str!("migrations/0004_frozen_presence.sql"),
    include_str!("migrations/0005_root_keys.sql"),
    include_str!("migrations/0006_imports.sql"),
    include_str!("migrations/0007_audit_chain.sql"),
    include_str!("migrations/0008_keys.sql"),
    include_str!("migrations/0009_roles.sql"),
    include_str!("migrations/0010_unlocks.sql"),
    include_str!("migrations/0011_audit_indexes.sql"),
];

/// The newest version.
pub(crate) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Added to the version while rows are moved in: no server, of whatever age, starts on half a registry.
pub(crate) const UNFINISHED: i64 = 1_000_000;
/// Added to the version when everything has been moved elsewhere: two stores of one install would soon differ.
pub(crate) const MOVED: i64 = 2_000_000;

/// What the number means that a store keeps as its version; the store's own newest is `known`.
pub(crate) fn standing(number: i64, known: i64) -> Standing {
    match number {
        0 => Standing::Nothing,
        MOVED.. => Standing::Moved,
        UNFINISHED.. => Standing::Unfinished,
        found if found > known => Standing::Newer { found, known },
        found => Standing::Schema { found, known },
    }
}

/// Why a database cannot be used.
#[derive(Debug)]
pub(crate) enum SchemaError {
    /// A newer claimd has been here, or its rows are on the way.
    Not(Standing),
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Brings a database to the newest schema.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), SchemaError> {
    make(connection, 0)
}

/// [`migrate`], with `mark` added to the version.
pub(crate) fn make(connection: &mut Connection, mark: i64) -> Result<(), SchemaError> {
    // Immediate: of two processes that start at once the second waits and then finds the work done.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    match standing(found, KNOWN) {
        Standing::Nothing | Standing::Schema { .. } => {}
        other => return Err(SchemaError::Not(other)),
    }
    for (version, sql) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version as i64 + 1 + mark)?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing_and_a_newer_schema_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(
            matches!(migrate(&mut connection), Err(SchemaError::Not(Standing::Newer { found: 99, known })) if known == KNOWN)
        );
        for (mark, standing) in [(UNFINISHED, Standing::Unfinished), (MOVED, Standing::Moved)] {
            connection.pragma_update(None, "user_version", mark + KNOWN).unwrap();
            assert!(matches!(migrate(&mut connection), Err(SchemaError::Not(found)) if found == standing));
        }
    }

    #[test]
    fn devices_of_the_first_schema_are_at_home_in_the_default_application() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection
            .execute_batch(
                "INSERT INTO tenant (id, title, created_at) VALUES (x'01', 'a', 1), (x'02', 'b', 1);
                 INSERT INTO profile (id, tenant, name, transport_type, mqtt_format, coap_format, created_at, is_default)
                 VALUES (x'11', x'01', 'default', 'DEFAULT', 0, 0, 1, 1);
                 INSERT INTO device (id, tenant, name, profile, gateway, created_at)
                 VALUES (x'0a1b', x'01', 'pump', x'11', 0, 1), (x'0a1c', x'01', 'Pump', x'11', 0, 1);",
            )
            .unwrap();
        migrate(&mut connection).unwrap();
        let mut statement = connection
            .prepare(
                "SELECT a.listing, d.listing, d.home_listing, a.tenant FROM device d JOIN application a \
                 ON a.id = d.home_application AND a.id = d.application ORDER BY d.id",
            )
            .unwrap();
        let rows: Vec<(String, String, String, Vec<u8>)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let row = |id: &str| ("default".to_owned(), id.to_owned(), id.to_owned(), vec![1]);
        assert_eq!(rows, [row("d-0a1b"), row("d-0a1c")]);
        let applications: i64 = connection.query_row("SELECT count(*) FROM application", [], |row| row.get(0)).unwrap();
        assert_eq!(applications, 2, "one a tenant");
    }

    #[test]
    fn the_audit_log_cannot_be_changed() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection
            .execute(
                "INSERT INTO audit (at, tenant, actor_kind, actor, action, outcome, reason, evidence, count, charged, \
                 origin, request_id) VALUES (1, x'00', 'account', x'00', 'confirm', 'refused', '', 'none', 1, 0, '', 0)",
                [],
            )
            .unwrap();
        connection.execute("INSERT INTO audit_chain (seq, tenant, hash) VALUES (1, x'00', x'00')", []).unwrap();
        assert!(connection.execute("UPDATE audit SET outcome = 'claimed'", []).is_err());
        assert!(connection.execute("DELETE FROM audit", []).is_err());
        assert!(connection.execute("UPDATE audit_chain SET hash = x'01'", []).is_err());
        assert!(connection.execute("DELETE FROM audit_chain", []).is_err());
    }
}
