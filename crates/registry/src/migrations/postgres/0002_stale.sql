-- What the look-up caches of the other nodes must forget, written with the change that made it so. Rows go by age.
CREATE TABLE stale (
    xid XID8 NOT NULL DEFAULT pg_current_xact_id (),
    seq BIGINT GENERATED ALWAYS AS IDENTITY CONSTRAINT stale_seq PRIMARY KEY,
    at BIGINT NOT NULL DEFAULT (extract(EPOCH FROM now()) * 1000)::bigint,
    what BYTEA NOT NULL -- see postgres/stale.rs
);
CREATE INDEX stale_order ON stale (xid);
CREATE INDEX stale_age ON stale (at);
