//! What is moved: every table of both stores with the columns that mean the same in both. What a store keeps for itself
//! alone is not here; tests hold both schemas against this list.

/// What a column holds; how that is kept is the store's affair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 16 bytes.
    Id,
    Bytes,
    Whole,
    Flag,
    Text,
}

#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The key first.
    pub(crate) columns: &'static [Column],
    /// How many columns are the key: unique, indexed, the order of a walk, the same in every store.
    pub(crate) key: usize,
    /// Rows are added behind the last and never changed.
    pub(crate) append_only: bool,
}

impl Table {
    pub(crate) fn key_columns(&self) -> &'static [Column] {
        &self.columns[..self.key]
    }

    /// The position of a column that this table has.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// The column's name in SQLite, where this one table counts its rows without a column of its own.
    pub(crate) fn sqlite_name(&self, column: &Column) -> &'static str {
        match (self.name, column.name) {
            ("signing_key", "rid") => "rowid",
            (_, name) => name,
        }
    }

    /// Whether PostgreSQL draws this column's values from a sequence.
    pub(crate) fn drawn(&self, column: &Column) -> bool {
        column.name == "rid" || (column.name == "seq" && matches!(self.name, "audit" | "outbox"))
    }
}

const fn id(name: &'static str) -> Column {
    Column { name, kind: Kind::Id }
}
const fn bytes(name: &'static str) -> Column {
    Column { name, kind: Kind::Bytes }
}
const fn whole(name: &'static str) -> Column {
    Column { name, kind: Kind::Whole }
}
const fn flag(name: &'static str) -> Column {
    Column { name, kind: Kind::Flag }
}
const fn text(name: &'static str) -> Column {
    Column { name, kind: Kind::Text }
}
const fn keyed(name: &'static str, key: usize, columns: &'static [Column]) -> Table {
    Table { name, columns, key, append_only: false }
}
const fn log(name: &'static str, columns: &'static [Column]) -> Table {
    Table { name, columns, key: 1, append_only: true }
}

/// A table comes behind those that it refers to.
pub(crate) const TABLES: [Table; 24] = [
    keyed("install_secret", 1, &[text("name"), whole("rid"), bytes("sealed")]),
    keyed("tenant", 1, &[id("id"), whole("rid"), text("title"), whole("created_at"), whole("version")]),
    keyed(
        "customer",
        1,
        &[id("id"), id("tenant"), text("title"), text("additional_info"), whole("created_at"), whole("version")],
    ),
    keyed(
        "account",
        1,
        &[
            id("id"),
            id("tenant"),
            id("customer"),
            flag("operator"),
            text("email"),
            text("first_name"),
            text("last_name"),
            text("additional_info"),
            text("password_hash"),
            bytes("activation_digest"),
            whole("activation_until"),
            whole("session_epoch"),
            whole("created_at"),
        ],
    ),
    keyed(
        "session",
        1,
        &[bytes("digest"), whole("rid"), id("account"), bytes("family"), whole("expires_at"), flag("spent")],
    ),
    keyed(
        "api_key",
        1,
        &[
            id("id"),
            whole("rid"),
            id("account"),
            text("name"),
            bytes("digest"),
            whole("created_at"),
            whole("expires_at"),
        ],
    ),
    keyed("signing_key", 1, &[text("kid"), whole("rid"), bytes("sealed"), whole("created_at"), whole("valid_until")]),
    keyed(
        "profile",
        1,
        &[
            id("id"),
            id("tenant"),
            text("name"),
            text("transport_type"),
            whole("mqtt_format"),
            whole("coap_format"),
            text("profile_data"),
            whole("created_at"),
            flag("is_default"),
        ],
    ),
    keyed(
        "application",
        1,
        &[
            id("id"),
            id("tenant"),
            text("listing"),
            id("customer"),
            flag("claiming_authorized"),
            flag("invalidate_code_on_claim"),
            whole("created_at"),
        ],
    ),
    keyed("device", 1, DEVICE),
    keyed(
        "credential",
        1,
        &[
            id("id"),
            whole("rid"),
            id("device"),
            whole("kind"),
            bytes("digest"),
            bytes("password_digest"),
            text("client_id"),
            text("user_name"),
            bytes("sealed"),
            whole("sealed_until"),
            whole("created_at"),
            whole("version"),
        ],
    ),
    keyed("relation", 2, &[id("gateway"), id("device"), whole("created_at")]),
    log(
        "audit",
        &[
            whole("seq"),
            whole("at"),
            id("tenant"),
            text("actor_kind"),
            id("actor"),
            text("action"),
            id("device"),
            text("outcome"),
            text("reason"),
            text("evidence"),
            whole("count"),
            flag("charged"),
            bytes("attempt_key"),
            whole("generation"),
            text("origin"),
            whole("request_id"),
        ],
    ),
    log("audit_chain", &[whole("seq"), id("tenant"), bytes("hash")]),
    keyed(
        "outbox",
        1,
        &[
            whole("seq"),
            whole("at"),
            id("tenant"),
            id("device"),
            text("name"),
            text("kind"),
            id("owner"),
            whole("claimed_at"),
        ],
    ),
    keyed("remembered", 2, &[id("account"), bytes("key"), whole("rid"), bytes("request"), text("answer"), whole("at")]),
    keyed("import", 1, IMPORT),
    keyed("import_batch", 1, &[whole("rid"), whole("job"), whole("last"), bytes("sealed")]),
    keyed(
        "import_row",
        2,
        &[
            whole("job"),
            whole("row"),
            text("listing"),
            bytes("dev_eui"),
            text("external_id"),
            text("checked"),
            text("status"),
            text("faults"),
            id("device"),
            whole("code_set_at"),
        ],
    ),
    keyed("role", 1, &[id("id"), id("tenant"), text("name"), whole("created_at")]),
    keyed("role_grant", 3, &[id("role"), text("resource"), text("operation")]),
    keyed("user_group", 1, &[id("id"), id("tenant"), id("customer"), text("name"), whole("created_at")]),
    keyed("group_role", 2, &[id("user_group"), id("role")]),
    keyed("group_user", 2, &[id("user_group"), id("account")]),
];

const DEVICE: &[Column] = &[
    id("id"),
    whole("rid"),
    id("tenant"),
    text("name"),
    id("profile"),
    text("label"),
    flag("gateway"),
    text("additional_info"),
    whole("created_at"),
    id("created_by"),
    whole("version"),
    id("owner"),
    whole("claimed_at"),
    bytes("proof_digest"),
    whole("generation"),
    whole("claim_reset_at"),
    flag("claiming_allowed"),
    whole("claiming_allowed_at"),
    flag("frozen"),
    flag("presence"),
    bytes("code_digest"),
    whole("code_from"),
    whole("code_until"),
    whole("code_set_at"),
    flag("code_any_case"),
    bytes("code_sealed"),
    id("home_application"),
    text("home_listing"),
    id("application"),
    text("listing"),
    bytes("dev_eui"),
    bytes("join_eui"),
    text("external_id"),
    text("serial_number"),
    whole("vendor_id"),
    whole("vendor_profile_id"),
    text("description"),
    text("texts"),
    bytes("root_keys_sealed"),
    flag("root_keys_exposed"),
    bytes("public_key"),
    text("provisioner"),
];

const IMPORT: &[Column] = &[
    id("id"),
    whole("rid"),
    id("tenant"),
    id("application"),
    id("account"),
    text("format"),
    flag("skip"),
    flag("dry_run"),
    text("state"),
    text("reason"),
    text("warnings"),
    whole("rows"),
    whole("created"),
    whole("updated"),
    whole("unchanged"),
    whole("failed"),
    whole("applied_rows"),
    whole("applied_created"),
    whole("applied_updated"),
    whole("applied_unchanged"),
    whole("applied_failed"),
    whole("checkpoint"),
    whole("codes"),
    whole("created_at"),
    whole("changed_at"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;
    use std::collections::BTreeSet;

    /// Where SQLite counts rows and PostgreSQL does not: no order depends on it.
    const COUNTED: [&str; 6] = ["customer", "account", "profile", "application", "role", "user_group"];

    #[test]
    fn every_column_of_the_sqlite_schema_is_moved_as_what_it_is() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::schema::migrate(&mut connection).unwrap();
        let mut statement = connection
            .prepare(
                "SELECT m.name, c.name, c.type FROM sqlite_schema m JOIN pragma_table_info(m.name) c \
                 WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
            )
            .unwrap();
        let in_schema: BTreeSet<(String, String, String)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let mut moved = BTreeSet::new();
        for table in &TABLES {
            for column in table.columns.iter().filter(|column| table.sqlite_name(column) != "rowid") {
                let kind = match column.kind {
                    Kind::Id | Kind::Bytes => "BLOB",
                    Kind::Whole | Kind::Flag => "INTEGER",
                    Kind::Text => "TEXT",
                };
                moved.insert((table.name.to_owned(), column.name.to_owned(), kind.to_owned()));
            }
        }
        for table in COUNTED {
            moved.insert((table.to_owned(), "rid".to_owned(), "INTEGER".to_owned()));
        }
        assert_eq!(in_schema, moved);
    }

    #[test]
    fn a_walk_in_the_order_of_keys_has_an_index_in_sqlite() {
        let mut connection = Connection::open_in_memory().unwrap();
        crate::schema::migrate(&mut connection).unwrap();
        for table in &TABLES {
            let keys: Vec<&str> = table.key_columns().iter().map(|column| table.sqlite_name(column)).collect();
            let keys = keys.join(", ");
            let sql = format!("EXPLAIN QUERY PLAN SELECT * FROM {} ORDER BY {keys} LIMIT 1", table.name);
            let plan: Vec<String> = connection
                .prepare(&sql)
                .unwrap()
                .query_map([], |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{}: {plan:?}", table.name);
        }
    }
}
