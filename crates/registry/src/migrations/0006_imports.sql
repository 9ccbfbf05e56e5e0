-- Import jobs: their rows sealed until they are applied, and what became of each.

CREATE TABLE import (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    application BLOB NOT NULL REFERENCES application (id) ON DELETE CASCADE,
    account BLOB NOT NULL, -- who began it
    format TEXT NOT NULL,
    skip INTEGER NOT NULL, -- 0: a bad row aborts
    dry_run INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    warnings TEXT, -- JSON array of faults
    rows INTEGER NOT NULL DEFAULT 0,
    created INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL DEFAULT 0,
    unchanged INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    applied_rows INTEGER NOT NULL DEFAULT 0,
    applied_created INTEGER NOT NULL DEFAULT 0,
    applied_updated INTEGER NOT NULL DEFAULT 0,
    applied_unchanged INTEGER NOT NULL DEFAULT 0,
    applied_failed INTEGER NOT NULL DEFAULT 0,
    checkpoint INTEGER NOT NULL DEFAULT 0, -- rows up to this one are dealt with
    codes INTEGER NOT NULL DEFAULT 0, -- generated and not handed over
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT;
CREATE INDEX import_tenant ON import (tenant);
CREATE INDEX import_state ON import (state);

CREATE TABLE import_batch (
    rid INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES import (rid) ON DELETE CASCADE,
    last INTEGER NOT NULL, -- its last row
    sealed BLOB NOT NULL,
    UNIQUE (job, last)
) STRICT;

CREATE TABLE import_row (
    job INTEGER NOT NULL REFERENCES import (rid) ON DELETE CASCADE,
    row INTEGER NOT NULL,
    listing TEXT,
    dev_eui BLOB,
    external_id TEXT,
    checked TEXT NOT NULL, -- what it would become
    status TEXT, -- what it became; NULL: not dealt with
    faults TEXT, -- JSON: errors and warnings; NULL: none
    device BLOB, -- whose code was generated
    code_set_at INTEGER,
    PRIMARY KEY (job, row)
) STRICT, WITHOUT ROWID;
-- A repeat in one file is an error.
CREATE INDEX import_row_listing ON import_row (job, listing) WHERE listing IS NOT NULL;
CREATE INDEX import_row_dev_eui ON import_row (job, dev_eui) WHERE dev_eui IS NOT NULL;
CREATE INDEX import_row_external_id ON import_row (job, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX import_row_code ON import_row (job, row) WHERE device IS NOT NULL;
