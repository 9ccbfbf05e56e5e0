-- API keys, as digests: a stolen file opens nothing.

CREATE TABLE api_key (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    account BLOB NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    expires_at INTEGER -- NULL: until it is removed
) STRICT;
CREATE INDEX api_key_account ON api_key (account);
