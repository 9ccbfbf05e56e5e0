-- Applications, where devices are listed, what they are known by, and claim codes beside claimingData in the one slot.

CREATE TABLE application (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    listing TEXT NOT NULL,
    customer BLOB REFERENCES customer (id) ON DELETE CASCADE, -- NULL: the tenant's
    claiming_authorized INTEGER NOT NULL,
    invalidate_code_on_claim INTEGER, -- NULL: as the install says
    created_at INTEGER NOT NULL,
    UNIQUE (tenant, listing)
) STRICT;
CREATE INDEX application_customer ON application (customer) WHERE customer IS NOT NULL;
INSERT INTO application (id, tenant, listing, claiming_authorized, created_at)
    SELECT randomblob (16), id, 'default', 1, created_at FROM tenant;

ALTER TABLE device ADD COLUMN home_application BLOB REFERENCES application (id);
ALTER TABLE device ADD COLUMN home_listing TEXT;
ALTER TABLE device ADD COLUMN application BLOB REFERENCES application (id);
ALTER TABLE device ADD COLUMN listing TEXT;
ALTER TABLE device ADD COLUMN dev_eui BLOB;
ALTER TABLE device ADD COLUMN join_eui BLOB;
ALTER TABLE device ADD COLUMN external_id TEXT;
ALTER TABLE device ADD COLUMN serial_number TEXT;
ALTER TABLE device ADD COLUMN vendor_id INTEGER;
ALTER TABLE device ADD COLUMN vendor_profile_id INTEGER;
ALTER TABLE device ADD COLUMN description TEXT;
ALTER TABLE device ADD COLUMN texts TEXT; -- JSON object of texts
ALTER TABLE device ADD COLUMN code_from INTEGER;
ALTER TABLE device ADD COLUMN code_any_case INTEGER; -- NULL: the slot holds claimingData, or nothing
ALTER TABLE device ADD COLUMN code_sealed BLOB;

-- Devices of before are at home in `default`, under ids that cannot clash.
UPDATE device SET
    home_application = (SELECT application.id FROM application WHERE application.tenant = device.tenant),
    home_listing = 'd-' || lower(hex(id));
UPDATE device SET application = home_application, listing = home_listing;

CREATE UNIQUE INDEX device_home ON device (home_application, home_listing);
CREATE UNIQUE INDEX device_listing ON device (application, listing);
CREATE UNIQUE INDEX device_dev_eui ON device (dev_eui) WHERE dev_eui IS NOT NULL;
CREATE UNIQUE INDEX device_external_id ON device (tenant, external_id) WHERE external_id IS NOT NULL;
