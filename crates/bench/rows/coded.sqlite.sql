-- Each has a claim code that its maker may read again.
BEGIN;
UPDATE device SET code_digest = randomblob(32), code_sealed = randomblob(48), code_set_at = 1800000000000, code_any_case = 1;
COMMIT;
VACUUM;
