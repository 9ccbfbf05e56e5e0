-- Each has spent its code and has an owner; the audit log has a row of it, chained.
SET synchronous_commit = off;
UPDATE device SET code_sealed = NULL, owner = (SELECT id FROM customer LIMIT 1), claimed_at = 1800000000000,
    proof_digest = uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), generation = 1,
    claim_reset_at = 1800000000000;
INSERT INTO audit (at, tenant, actor_kind, actor, action, device, outcome, reason, evidence, count, charged, attempt_key, origin,
    request_id, generation)
SELECT 1800000000000, tenant, 'account', gen_random_uuid(), 'confirm', id, 'claimed', '', 'stored_code', 1, false,
    uuid_send(gen_random_uuid()), 'http 192.0.2.1:50000', rid, 1 FROM device;
INSERT INTO audit_chain (seq, tenant, hash)
SELECT seq, tenant, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) FROM audit
WHERE seq NOT IN (SELECT seq FROM audit_chain);
VACUUM FULL;
