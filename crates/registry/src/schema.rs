//! Migrations: numbered SQL, applied in order, each in a transaction with its version row. An older binary refuses a
//! newer schema.

use rusqlite::Connection;

/// Every migration, oldest first; the position is the version.
const MIGRATIONS: [&str; 1] = [include_str!("migrations/0001_initial.sql")];

/// Why a database cannot be used.
#[derive(Debug)]
pub(crate) enum SchemaError {
    /// A newer claimd has been here.
    Newer {
        found: i64,
        known: i64,
    },
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for SchemaError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

/// Brings a database to the newest schema.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), SchemaError> {
    let known = MIGRATIONS.len() as i64;
    // Immediate: of two processes that start at once the second waits and then finds the work done.
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(SchemaError::Newer { found, known });
    }
    for (version, sql) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "user_version", version as i64 + 1)?;
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
        assert!(matches!(migrate(&mut connection), Err(SchemaError::Newer { found: 99, known: 1 })));
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
        assert!(connection.execute("UPDATE audit SET outcome = 'claimed'", []).is_err());
        assert!(connection.execute("DELETE FROM audit", []).is_err());
    }
}
