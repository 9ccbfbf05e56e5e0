-- {N} devices with an access token each, in the default application of the first tenant.
SET synchronous_commit = off;
INSERT INTO device (id, tenant, name, profile, gateway, created_at, home_application, home_listing, application, listing)
SELECT gen_random_uuid(), tenant.id, device_name, profile.id, false, 1800000000000, application.id, device_name,
    application.id, device_name
FROM (SELECT 'pump-' || lpad(i::text, 9, '0') AS device_name FROM generate_series(1, {N}) AS i) AS names
CROSS JOIN (SELECT id FROM tenant LIMIT 1) AS tenant
JOIN profile ON profile.tenant = tenant.id AND profile.is_default
JOIN application ON application.tenant = tenant.id;
ANALYZE device;
INSERT INTO credential (id, device, kind, digest, created_at)
SELECT gen_random_uuid(), id, 0, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 1800000000000
FROM device WHERE name LIKE 'pump-%';
VACUUM FULL;
