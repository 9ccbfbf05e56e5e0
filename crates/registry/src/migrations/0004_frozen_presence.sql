-- The maker's pause on one device, and its wish that a code counts only with a fresh announcement.

ALTER TABLE device ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE device ADD COLUMN presence INTEGER NOT NULL DEFAULT 0;
