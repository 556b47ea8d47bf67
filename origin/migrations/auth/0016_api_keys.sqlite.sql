-- Keys with which programs call the gateway. A key that ends is deleted.
CREATE TABLE api_keys (
    id         TEXT PRIMARY KEY,
    -- base64url of the SHA-256 of the key. The key itself is not stored.
    digest     TEXT NOT NULL UNIQUE,
    -- No cascade: an account is deleted only after its keys have ended.
    owner      TEXT NOT NULL REFERENCES accounts (id),
    name       TEXT NOT NULL,
    -- Separated by blanks.
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX api_keys_of_owner ON api_keys (owner, id);
CREATE INDEX api_keys_by_expiry ON api_keys (expires_at);

-- Keys whose state the gateway may not have: that of the row in api_keys, or ended without one. A row is written together
-- with the change, and deleted when the gateway has the state.
CREATE TABLE api_key_pushes (
    digest  TEXT PRIMARY KEY,
    key_id  TEXT NOT NULL,
    -- Number of changes since the row was written.
    changes INTEGER NOT NULL,
    -- How often the end was pushed.
    ends    INTEGER NOT NULL,
    due_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX api_key_pushes_by_time ON api_key_pushes (due_at);
