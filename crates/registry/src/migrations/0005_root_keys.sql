-- What a LoRaWAN device is made with: root keys, sealed and never moved by a claim; whether others know them; its public key.

ALTER TABLE device ADD COLUMN root_keys_sealed BLOB;
ALTER TABLE device ADD COLUMN root_keys_exposed INTEGER NOT NULL DEFAULT 0; -- 1 for ever
ALTER TABLE device ADD COLUMN public_key BLOB;
ALTER TABLE device ADD COLUMN provisioner TEXT;
