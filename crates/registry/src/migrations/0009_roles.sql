-- Roles with what they grant, groups of a customer's users, and who has what. A role's grants are few names of a closed set.

CREATE TABLE role (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (tenant, name)
) STRICT;

CREATE TABLE role_grant (
    role BLOB NOT NULL REFERENCES role (id) ON DELETE CASCADE,
    resource TEXT NOT NULL, -- ALL, DEVICE
    operation TEXT NOT NULL, -- ALL, CLAIM_DEVICES
    UNIQUE (role, resource, operation)
) STRICT;

CREATE TABLE user_group (
    rid INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant BLOB NOT NULL REFERENCES tenant (id) ON DELETE CASCADE,
    customer BLOB NOT NULL REFERENCES customer (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (customer, name)
) STRICT;
CREATE INDEX user_group_tenant ON user_group (tenant);

CREATE TABLE group_role (
    user_group BLOB NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    role BLOB NOT NULL REFERENCES role (id) ON DELETE CASCADE,
    UNIQUE (user_group, role)
) STRICT;
CREATE INDEX group_role_role ON group_role (role);

CREATE TABLE group_user (
    user_group BLOB NOT NULL REFERENCES user_group (id) ON DELETE CASCADE,
    account BLOB NOT NULL REFERENCES account (id) ON DELETE CASCADE,
    UNIQUE (user_group, account)
) STRICT;
CREATE INDEX group_user_account ON group_user (account);
