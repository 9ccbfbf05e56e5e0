-- Each has spent its code and has an owner; the audit log has a row of it, chained.
BEGIN;
UPDATE device SET code_sealed = NULL, owner = (SELECT id FROM customer LIMIT 1), claimed_at = 1800000000000,
    proof_digest = randomblob(32), generation = 1, claim_reset_at = 1800000000000;
INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, charged, attempt_key, origin,
    request_id, generation)
SELECT 1800000000000, tenant, 'account', randomblob(16), 'confirm', id, 'claimed', '', 'stored_code', 1, 0, randomblob(16),
    'http 192.0.2.1:50000', rid, 1 FROM device;
INSERT INTO audit_chain (seq, tenant, hash) SELECT seq, tenant, randomblob(32) FROM audit
    WHERE seq NOT IN (SELECT seq FROM audit_chain);
COMMIT;
VACUUM;
