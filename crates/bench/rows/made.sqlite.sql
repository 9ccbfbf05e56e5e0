-- {N} devices with an access token each, in the default application of the first tenant.
PRAGMA synchronous = OFF;
BEGIN;
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {N}),
    named (device_name) AS (SELECT printf('pump-%09d', i) FROM n)
INSERT INTO device (id, tenant, name, profile, gateway, created_at, home_application, home_listing, application, listing)
SELECT randomblob(16), profile.tenant, device_name, profile.id, 0, 1800000000000, application.id, device_name, application.id,
    device_name
FROM named CROSS JOIN (SELECT * FROM profile WHERE is_default LIMIT 1) AS profile
JOIN application ON application.tenant = profile.tenant;
INSERT INTO credential (id, device, kind, digest, created_at)
SELECT randomblob(16), id, 0, randomblob(32), 1800000000000 FROM device
WHERE id NOT IN (SELECT device FROM credential);
COMMIT;
VACUUM;
