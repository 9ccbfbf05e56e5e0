-- Each has a claim code that its maker may read again.
SET synchronous_commit = off;
UPDATE device SET code_digest = uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    code_sealed = uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    code_set_at = 1800000000000, code_any_case = true;
VACUUM FULL;
