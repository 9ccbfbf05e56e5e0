//! The list of tables against PostgreSQL's own words.

use std::collections::BTreeSet;

use super::super::tables::Kind;
use super::*;
use filled::another_postgres;

/// What a PostgreSQL database has for itself: who has the say in chains and schemas, the order of commits, where a file
/// arrives, what the look-up caches of running nodes must forget.
const OWN: [(&str, &[&str]); 6] = [
    ("audit", &["xid"]),
    ("outbox", &["xid"]),
    ("import", &["node", "heard_at"]),
    ("audit_sealing", &["one", "seq"]),
    ("schema_version", &["one", "version"]),
    ("stale", &["xid", "seq", "at", "what"]),
];

#[test]
fn every_column_of_the_postgres_schema_is_moved_as_what_it_is() {
    let store = another_postgres();
    opens(&store).unwrap();
    let Store::Postgres { config, patience } = &store else { unreachable!() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let rows = runtime.block_on(async {
        let client = crate::postgres::connect_alone(config, *patience).await.unwrap();
        let sql = "SELECT table_name::text, column_name::text, data_type::text, is_identity::text \
             FROM information_schema.columns WHERE table_schema = 'public'";
        client.query(sql, &[]).await.unwrap()
    });
    let own = |table: &str, column: &str| OWN.iter().any(|(of, own)| *of == table && own.contains(&column));
    let in_schema: BTreeSet<(String, String, String, bool)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get::<_, &str>(3) == "YES"))
        .filter(|(table, column, ..): &(String, String, String, bool)| !own(table, column))
        .collect();
    let mut moved = BTreeSet::new();
    for table in &TABLES {
        for column in table.columns {
            let kind = match column.kind {
                Kind::Id => "uuid",
                Kind::Bytes => "bytea",
                Kind::Whole => "bigint",
                Kind::Flag => "boolean",
                Kind::Text => "text",
            };
            moved.insert((table.name.to_owned(), column.name.to_owned(), kind.to_owned(), table.drawn(column)));
        }
    }
    assert_eq!(in_schema, moved);
}
