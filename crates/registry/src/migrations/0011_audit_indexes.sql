-- What is asked of the audit log beside its order: one device's rows, and the first row of a time.

CREATE INDEX audit_device ON audit (device, seq) WHERE device IS NOT NULL;
CREATE INDEX audit_time ON audit (tenant, at, seq);

-- Values that a rotation of the master key looks for.
CREATE INDEX device_code_sealed ON device (rid) WHERE code_sealed IS NOT NULL;
CREATE INDEX device_root_keys_sealed ON device (rid) WHERE root_keys_sealed IS NOT NULL;
