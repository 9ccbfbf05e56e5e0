-- Instants are epoch milliseconds, ids 16 bytes, digests 32 bytes. Rowid tables with unique indexes: WITHOUT ROWID
-- costs more than twice the CPU per ownership change.

CREATE TABLE tenant (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    title TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1
) STRICT;

CREATE TABLE customer (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    title TEXT NOT NULL,
    additional_info TEXT,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    UNIQUE (tenant, title)
) STRICT;

CREATE TABLE account (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    customer BLOB REFERENCES customer (id) ON DELETE CASCADE,
    operator INTEGER NOT NULL,
    email TEXT NOT NULL UNIQUE,
    first_name TEXT,
    last_name TEXT,
    additional_info TEXT,
    password_hash TEXT,
    activation_digest BLOB UNIQUE,
    activation_until INTEGER,
    session_epoch INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX account_tenant ON account (tenant);
CREATE INDEX account_customer ON account (customer);

CREATE TABLE session (
    rid INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE,
    account BLOB NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    family BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    spent INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX session_family ON session (family);
CREATE INDEX session_account ON session (account);
CREATE INDEX session_expiry ON session (expires_at);

CREATE TABLE signing_key (
    kid TEXT NOT NULL UNIQUE,
    sealed BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE profile (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    transport_type TEXT NOT NULL,
    mqtt_format INTEGER NOT NULL,
    coap_format INTEGER NOT NULL,
    profile_data TEXT,
    created_at INTEGER NOT NULL,
    is_default INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;

CREATE TABLE device (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    profile BLOB NOT NULL REFERENCES profile (id),
    label TEXT,
    gateway INTEGER NOT NULL,
    additional_info TEXT,
    created_at INTEGER NOT NULL,
    created_by BLOB, -- the gateway that made it
    version INTEGER NOT NULL DEFAULT 1,
    owner BLOB REFERENCES customer (id),
    claimed_at INTEGER,
    proof_digest BLOB,
    generation INTEGER NOT NULL DEFAULT 0,
    claim_reset_at INTEGER, -- the fence
    claiming_allowed INTEGER, -- NULL: the attribute is absent
    claiming_allowed_at INTEGER,
    code_digest BLOB, -- claimingData
    code_until INTEGER,
    code_set_at INTEGER,
    UNIQUE (tenant, name),
    CHECK ((owner IS NULL) = (claimed_at IS NULL))
) STRICT;
CREATE INDEX device_owner ON device (owner, name) WHERE owner IS NOT NULL;
CREATE INDEX device_profile ON device (profile);
CREATE INDEX device_created_by ON device (created_by, created_at) WHERE created_by IS NOT NULL;

CREATE TABLE credential (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    device BLOB NOT NULL UNIQUE REFERENCES device (id) ON DELETE CASCADE,
    kind INTEGER NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    password_digest BLOB,
    client_id TEXT,
    user_name TEXT,
    sealed BLOB, -- a generated token, until it was read once or 24 h have passed
    sealed_until INTEGER,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX credential_sealed ON credential (sealed_until) WHERE sealed IS NOT NULL;

CREATE TABLE relation (
    gateway BLOB NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    device BLOB NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    created_at INTEGER NOT NULL,
    UNIQUE (gateway, device)
) STRICT;
CREATE INDEX relation_device ON relation (device);

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    tenant BLOB NOT NULL,
    actor_kind TEXT NOT NULL, -- account, device
    actor BLOB NOT NULL,
    action TEXT NOT NULL,
    device BLOB,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    count INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    attempt_key BLOB,
    generation INTEGER,
    origin TEXT NOT NULL,
    request_id INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_tenant ON audit (tenant, seq);
CREATE INDEX audit_charged ON audit (at) WHERE charged = 1;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    tenant BLOB NOT NULL,
    device BLOB NOT NULL,
    name TEXT NOT NULL,
    kind TEXT NOT NULL, -- claimed, unclaimed, credential_revoked
    owner BLOB,
    claimed_at INTEGER
) STRICT;

CREATE TABLE remembered (
    rid INTEGER PRIMARY KEY,
    account BLOB NOT NULL,
    key BLOB NOT NULL,
    request BLOB NOT NULL,
    answer TEXT NOT NULL,
    at INTEGER NOT NULL,
    UNIQUE (account, key)
) STRICT;
CREATE INDEX remembered_age ON remembered (account, at);
