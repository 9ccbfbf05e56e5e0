-- Keys that change: what digests are keyed with is sealed under the master key and no longer derived from it, and signing keys
-- end one bearer's life after their successor was made.

CREATE TABLE install_secret (
    rid INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE, -- digest_root
    sealed BLOB NOT NULL
) STRICT;
ALTER TABLE signing_key ADD COLUMN valid_until INTEGER; -- NULL: it signs
