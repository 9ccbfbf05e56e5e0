-- The audit log's chain of hashes, a chain a tenant: beside the rows, so that neither is ever changed.

CREATE TABLE audit_chain (
    seq INTEGER PRIMARY KEY, -- of the row in audit
    tenant BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_chain_tenant ON audit_chain (tenant, seq);
CREATE TRIGGER audit_chain_no_update BEFORE UPDATE ON audit_chain
    BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_chain_no_delete BEFORE DELETE ON audit_chain
    BEGIN SELECT RAISE (ABORT, 'the audit log is append-only'); END;
