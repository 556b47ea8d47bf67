-- What accounts may do. A role is a set of permissions; both have names by which tokens and
-- questions speak of them.
CREATE TABLE roles (
    id          TEXT PRIMARY KEY,
    name        TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    -- 1 for those that the program itself relies on: neither renamed nor deleted.
    built_in    BIGINT NOT NULL,
    created_at  BIGINT NOT NULL,
    updated_at  BIGINT NOT NULL
);

CREATE TABLE permissions (
    id         TEXT PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    resource   TEXT NOT NULL,
    action     TEXT NOT NULL,
    built_in   BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE role_permissions (
    role_id       TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    -- No cascade: what a role still has is in use.
    permission_id TEXT NOT NULL REFERENCES permissions (id),
    PRIMARY KEY (role_id, permission_id)
);
CREATE INDEX role_permissions_by_permission ON role_permissions (permission_id);

INSERT INTO roles (id, name, description, built_in, created_at, updated_at) VALUES
    ('00000000-0000-7000-8000-000000000001', 'admin', 'May do everything', 1, 0, 0),
    ('00000000-0000-7000-8000-000000000002', 'user', 'Every account', 1, 0, 0);
INSERT INTO permissions (id, name, resource, action, built_in, created_at, updated_at) VALUES
    ('00000000-0000-7000-8000-000000000101', 'read:profile', 'profile', 'read', 1, 0, 0),
    ('00000000-0000-7000-8000-000000000102', 'update:profile', 'profile', 'update', 1, 0, 0),
    ('00000000-0000-7000-8000-000000000103', 'read:users', 'users', 'read', 1, 0, 0),
    ('00000000-0000-7000-8000-000000000104', 'create:users', 'users', 'create', 1, 0, 0),
    ('00000000-0000-7000-8000-000000000105', 'update:users', 'users', 'update', 1, 0, 0),
    ('00000000-0000-7000-8000-000000000106', 'delete:users', 'users', 'delete', 1, 0, 0),
    ('00000000-0000-7000-8000-000000000107', 'manage:roles', 'roles', 'manage', 1, 0, 0),
    ('00000000-0000-7000-8000-000000000108', 'manage:permissions', 'permissions', 'manage', 1, 0, 0);
INSERT INTO role_permissions (role_id, permission_id)
    SELECT r.id, p.id FROM roles r, permissions p WHERE r.name = 'admin' OR p.resource = 'profile';

-- Roles of accounts by id, so that a role can have another name.
CREATE TABLE held_roles (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- No cascade: a role that somebody has is in use.
    role_id    TEXT NOT NULL REFERENCES roles (id),
    PRIMARY KEY (account_id, role_id)
);
INSERT INTO held_roles (account_id, role_id)
    SELECT a.account_id, r.id FROM account_roles a JOIN roles r ON r.name = a.role;
DROP TABLE account_roles;
ALTER TABLE held_roles RENAME TO account_roles;
CREATE INDEX account_roles_by_role ON account_roles (role_id);
