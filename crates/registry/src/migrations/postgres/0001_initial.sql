-- The registry on PostgreSQL: the tables of the ten SQLite migrations, under the same names.
--
-- Ids are UUIDs, digests BYTEA of 32 bytes. Instants are BIGINT epoch milliseconds, as the domain has them, and not
-- timestamptz: they are compared and given back exactly, and no session's time zone touches them. Whole numbers are BIGINT.
-- What people are sorted by and names are compared by is COLLATE "C": bytes decide, whatever the database was made with.
-- Unique indexes are named by what they protect (`TABLE_WHAT`): a broken one is told by that name.
-- `rid` is where SQLite has its row ids: the order things were made in, never known outside.

CREATE TABLE tenant (
    id UUID CONSTRAINT tenant_id PRIMARY KEY,
    rid BIGINT GENERATED ALWAYS AS IDENTITY,
    title TEXT COLLATE "C" NOT NULL CONSTRAINT tenant_title UNIQUE,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);

CREATE TABLE customer (
    id UUID CONSTRAINT customer_id PRIMARY KEY,
    tenant UUID NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    title TEXT COLLATE "C" NOT NULL,
    additional_info TEXT,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    CONSTRAINT customer_title UNIQUE (tenant, title)
);

CREATE TABLE account (
    id UUID CONSTRAINT account_id PRIMARY KEY,
    tenant UUID NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    customer UUID REFERENCES customer (id) ON DELETE CASCADE,
    operator BOOLEAN NOT NULL,
    email TEXT COLLATE "C" NOT NULL CONSTRAINT account_email UNIQUE,
    first_name TEXT,
    last_name TEXT,
    additional_info TEXT,
    password_hash TEXT,
    activation_digest BYTEA CONSTRAINT account_activation UNIQUE,
    activation_until BIGINT,
    session_epoch BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL
);
CREATE INDEX account_tenant ON account (tenant);
CREATE INDEX account_customer ON account (customer);

CREATE TABLE session (
    rid BIGINT GENERATED ALWAYS AS IDENTITY,
    digest BYTEA CONSTRAINT session_digest PRIMARY KEY,
    account UUID NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    family BYTEA NOT NULL,
    expires_at BIGINT NOT NULL,
    spent BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX session_family ON session (family);
CREATE INDEX session_account ON session (account, rid);
CREATE INDEX session_expiry ON session (expires_at);

CREATE TABLE api_key (
    id UUID CONSTRAINT api_key_id PRIMARY KEY,
    rid BIGINT GENERATED ALWAYS AS IDENTITY,
    account UUID NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    digest BYTEA NOT NULL CONSTRAINT api_key_digest UNIQUE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT -- NULL: until it is removed
);
CREATE INDEX api_key_account ON api_key (account);

CREATE TABLE install_secret (
    rid BIGINT GENERATED ALWAYS AS IDENTITY,
    name TEXT COLLATE "C" CONSTRAINT install_secret_name PRIMARY KEY, -- digest_root
    sealed BYTEA NOT NULL
);

CREATE TABLE signing_key (
    rid BIGINT GENERATED ALWAYS AS IDENTITY,
    kid TEXT COLLATE "C" CONSTRAINT signing_key_kid PRIMARY KEY,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    valid_until BIGINT -- NULL: it signs
);

CREATE TABLE profile (
    id UUID CONSTRAINT profile_id PRIMARY KEY,
    tenant UUID NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    transport_type TEXT NOT NULL,
    mqtt_format BIGINT NOT NULL,
    coap_format BIGINT NOT NULL,
    profile_data TEXT,
    created_at BIGINT NOT NULL,
    is_default BOOLEAN NOT NULL,
    CONSTRAINT profile_name UNIQUE (tenant, name)
);

CREATE TABLE application (
    id UUID CONSTRAINT application_id PRIMARY KEY,
    tenant UUID NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    listing TEXT COLLATE "C" NOT NULL,
    customer UUID REFERENCES customer (id) ON DELETE CASCADE, -- NULL: the tenant's
    claiming_authorized BOOLEAN NOT NULL,
    invalidate_code_on_claim BOOLEAN, -- NULL: as the install says
    created_at BIGINT NOT NULL,
    CONSTRAINT application_listing UNIQUE (tenant, listing)
);
CREATE INDEX application_customer ON application (customer) WHERE customer IS NOT NULL;

CREATE TABLE device (
    id UUID CONSTRAINT device_id PRIMARY KEY,
    rid BIGINT GENERATED ALWAYS AS IDENTITY,
    tenant UUID NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    profile UUID NOT NULL CONSTRAINT device_profile_reference REFERENCES profile (id),
    label TEXT,
    gateway BOOLEAN NOT NULL,
    additional_info TEXT,
    created_at BIGINT NOT NULL,
    created_by UUID, -- the gateway that made it
    version BIGINT NOT NULL DEFAULT 1,
    owner UUID CONSTRAINT device_owner_reference REFERENCES customer (id),
    claimed_at BIGINT,
    proof_digest BYTEA,
    generation BIGINT NOT NULL DEFAULT 0,
    claim_reset_at BIGINT, -- the fence
    claiming_allowed BOOLEAN, -- NULL: the attribute is absent
    claiming_allowed_at BIGINT,
    frozen BOOLEAN NOT NULL DEFAULT FALSE, -- the maker's pause on it
    presence BOOLEAN NOT NULL DEFAULT FALSE, -- a code counts only with a fresh announcement
    code_digest BYTEA, -- claimingData, or a claim code
    code_from BIGINT,
    code_until BIGINT,
    code_set_at BIGINT,
    code_any_case BOOLEAN, -- NULL: the slot holds claimingData, or nothing
    code_sealed BYTEA,
    home_application UUID NOT NULL CONSTRAINT device_home_reference REFERENCES application (id),
    home_listing TEXT COLLATE "C" NOT NULL,
    application UUID NOT NULL CONSTRAINT device_listing_reference REFERENCES application (id),
    listing TEXT COLLATE "C" NOT NULL,
    dev_eui BYTEA,
    join_eui BYTEA,
    external_id TEXT COLLATE "C",
    serial_number TEXT,
    vendor_id BIGINT,
    vendor_profile_id BIGINT,
    description TEXT,
    texts TEXT, -- JSON object of texts
    root_keys_sealed BYTEA,
    root_keys_exposed BOOLEAN NOT NULL DEFAULT FALSE, -- true for ever
    public_key BYTEA,
    provisioner TEXT,
    CONSTRAINT device_name UNIQUE (tenant, name),
    CONSTRAINT device_home UNIQUE (home_application, home_listing),
    CONSTRAINT device_listing UNIQUE (application, listing),
    CONSTRAINT device_owned_since CHECK ((owner IS NULL) = (claimed_at IS NULL))
);
CREATE UNIQUE INDEX device_dev_eui ON device (dev_eui) WHERE dev_eui IS NOT NULL;
CREATE UNIQUE INDEX device_external_id ON device (tenant, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX device_owner ON device (owner, name) WHERE owner IS NOT NULL;
CREATE INDEX device_profile ON device (profile);
CREATE INDEX device_created_by ON device (created_by, created_at) WHERE created_by IS NOT NULL;
-- For a pass over what is sealed.
CREATE INDEX device_sealed ON device (rid) WHERE code_sealed IS NOT NULL OR root_keys_sealed IS NOT NULL;

CREATE TABLE credential (
    id UUID CONSTRAINT credential_id PRIMARY KEY,
    rid BIGINT GENERATED ALWAYS AS IDENTITY,
    device UUID NOT NULL CONSTRAINT credential_device UNIQUE REFERENCES device (id) ON DELETE CASCADE,
    kind BIGINT NOT NULL,
    digest BYTEA NOT NULL CONSTRAINT credential_digest UNIQUE,
    password_digest BYTEA,
    client_id TEXT,
    user_name TEXT,
    sealed BYTEA, -- a generated token, until it was read once or 24 h have passed
    sealed_until BIGINT,
    created_at BIGINT NOT NULL,
    version BIGINT NOT NULL DEFAULT 1
);
CREATE INDEX credential_sealed ON credential (rid) WHERE sealed IS NOT NULL;
CREATE INDEX credential_sealed_until ON credential (sealed_until) WHERE sealed IS NOT NULL;

CREATE TABLE relation (
    gateway UUID NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    device UUID NOT NULL REFERENCES device (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    CONSTRAINT relation_once PRIMARY KEY (gateway, device)
);
CREATE INDEX relation_device ON relation (device);

-- Rows of parallel transactions become visible in another order than that of `seq`. `xid`, the writing transaction, tells what
-- may still be outstanding: nothing below `pg_snapshot_xmin(pg_current_snapshot())`. It stands before `seq`, so that a
-- transaction has its id before it draws a position.

CREATE TABLE audit (
    xid XID8 NOT NULL DEFAULT pg_current_xact_id (),
    seq BIGINT GENERATED ALWAYS AS IDENTITY CONSTRAINT audit_seq PRIMARY KEY,
    at BIGINT NOT NULL,
    tenant UUID NOT NULL,
    actor_kind TEXT NOT NULL, -- account, device
    actor UUID NOT NULL,
    action TEXT COLLATE "C" NOT NULL,
    device UUID,
    outcome TEXT COLLATE "C" NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    count BIGINT NOT NULL,
    charged BOOLEAN NOT NULL,
    attempt_key BYTEA,
    generation BIGINT,
    origin TEXT NOT NULL,
    request_id BIGINT NOT NULL
);
CREATE INDEX audit_tenant ON audit (tenant, seq);
CREATE INDEX audit_charged ON audit (at) WHERE charged;
CREATE INDEX audit_unlock ON audit (attempt_key, seq) WHERE action = 'unlock';

-- The audit log's chain of hashes, a chain a tenant: beside the rows, so that neither is ever changed.
CREATE TABLE audit_chain (
    seq BIGINT CONSTRAINT audit_chain_seq PRIMARY KEY, -- of the row in audit
    tenant UUID NOT NULL,
    hash BYTEA NOT NULL
);
CREATE INDEX audit_chain_tenant ON audit_chain (tenant, seq);

-- Who has its one row goes on with the chains.
CREATE TABLE audit_sealing (
    one BOOLEAN CONSTRAINT audit_sealing_one PRIMARY KEY DEFAULT TRUE CHECK (one),
    seq BIGINT NOT NULL -- the newest that is chained
);
INSERT INTO audit_sealing (seq) VALUES (0);

CREATE FUNCTION audit_is_append_only () RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only ();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only ();
CREATE TRIGGER audit_chain_no_change BEFORE UPDATE OR DELETE ON audit_chain
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only ();
CREATE TRIGGER audit_chain_no_truncate BEFORE TRUNCATE ON audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only ();

CREATE TABLE outbox (
    xid XID8 NOT NULL DEFAULT pg_current_xact_id (),
    seq BIGINT GENERATED ALWAYS AS IDENTITY CONSTRAINT outbox_seq PRIMARY KEY,
    at BIGINT NOT NULL,
    tenant UUID NOT NULL,
    device UUID NOT NULL, -- or the application
    name TEXT NOT NULL,
    kind TEXT NOT NULL, -- claimed, unclaimed, credential_revoked, or a maker's deed
    owner UUID,
    claimed_at BIGINT
);
CREATE INDEX outbox_order ON outbox (xid, seq);

CREATE TABLE remembered (
    rid BIGINT GENERATED ALWAYS AS IDENTITY,
    account UUID NOT NULL,
    key BYTEA NOT NULL,
    request BYTEA NOT NULL,
    answer TEXT NOT NULL,
    at BIGINT NOT NULL,
    CONSTRAINT remembered_key PRIMARY KEY (account, key)
);
CREATE INDEX remembered_age ON remembered (account, at, rid);

CREATE TABLE import (
    id UUID CONSTRAINT import_id PRIMARY KEY,
    rid BIGINT GENERATED ALWAYS AS IDENTITY CONSTRAINT import_rid UNIQUE,
    tenant UUID NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    application UUID NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    account UUID NOT NULL, -- who began it
    format TEXT NOT NULL,
    skip BOOLEAN NOT NULL, -- false: a bad row aborts
    dry_run BOOLEAN NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    reason TEXT,
    warnings TEXT, -- JSON array of faults
    rows BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL DEFAULT 0,
    updated BIGINT NOT NULL DEFAULT 0,
    unchanged BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    applied_rows BIGINT NOT NULL DEFAULT 0,
    applied_created BIGINT NOT NULL DEFAULT 0,
    applied_updated BIGINT NOT NULL DEFAULT 0,
    applied_unchanged BIGINT NOT NULL DEFAULT 0,
    applied_failed BIGINT NOT NULL DEFAULT 0,
    checkpoint BIGINT NOT NULL DEFAULT 0, -- rows up to this one are dealt with
    codes BIGINT NOT NULL DEFAULT 0, -- generated and not handed over
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    node UUID NOT NULL, -- where its file arrives: a process, not a machine
    heard_at BIGINT NOT NULL -- when rows last came, by this database's clock
);
CREATE INDEX import_tenant ON import (tenant);
CREATE INDEX import_state ON import (state);

CREATE TABLE import_batch (
    rid BIGINT GENERATED ALWAYS AS IDENTITY CONSTRAINT import_batch_rid PRIMARY KEY,
    job BIGINT NOT NULL REFERENCES import (rid) ON DELETE CASCADE,
    last BIGINT NOT NULL, -- its last row
    sealed BYTEA NOT NULL,
    CONSTRAINT import_batch_last UNIQUE (job, last)
);

CREATE TABLE import_row (
    job BIGINT NOT NULL REFERENCES import (rid) ON DELETE CASCADE,
    row BIGINT NOT NULL,
    listing TEXT COLLATE "C",
    dev_eui BYTEA,
    external_id TEXT COLLATE "C",
    checked TEXT COLLATE "C" NOT NULL, -- what it would become
    status TEXT COLLATE "C", -- what it became; NULL: not dealt with
    faults TEXT, -- JSON: errors and warnings; NULL: none
    device UUID, -- whose code was generated
    code_set_at BIGINT,
    CONSTRAINT import_row_row PRIMARY KEY (job, row)
);
-- A repeat in one file is an error.
CREATE INDEX import_row_listing ON import_row (job, listing) WHERE listing IS NOT NULL;
CREATE INDEX import_row_dev_eui ON import_row (job, dev_eui) WHERE dev_eui IS NOT NULL;
CREATE INDEX import_row_external_id ON import_row (job, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX import_row_code ON import_row (job, row) WHERE device IS NOT NULL;

CREATE TABLE role (
    id UUID CONSTRAINT role_id PRIMARY KEY,
    tenant UUID NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT role_name UNIQUE (tenant, name)
);

CREATE TABLE role_grant (
    role UUID NOT NULL REFERENCES role (id) ON DELETE CASCADE,
    resource TEXT COLLATE "C" NOT NULL, -- ALL, DEVICE
    operation TEXT COLLATE "C" NOT NULL, -- ALL, CLAIM_DEVICES
    CONSTRAINT role_grant_once PRIMARY KEY (role, resource, operation)
);

CREATE TABLE user_group (
    id UUID CONSTRAINT user_group_id PRIMARY KEY,
    tenant UUID NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    customer UUID NOT NULL REFERENCES customer (id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT user_group_name UNIQUE (customer, name)
);
CREATE INDEX user_group_tenant ON user_group (tenant);

CREATE TABLE group_role (
    user_group UUID NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    role UUID NOT NULL REFERENCES role (id) ON DELETE CASCADE,
    CONSTRAINT group_role_once PRIMARY KEY (user_group, role)
);
CREATE INDEX group_role_role ON group_role (role);

CREATE TABLE group_user (
    user_group UUID NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    account UUID NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    CONSTRAINT group_user_once PRIMARY KEY (user_group, account)
);
CREATE INDEX group_user_account ON group_user (account);
