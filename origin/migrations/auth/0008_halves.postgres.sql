-- Grows with every change of the account that its profile shows: which of two copies is newer,
-- and the ETag of the user.
ALTER TABLE accounts ADD COLUMN version BIGINT NOT NULL DEFAULT 1;

-- SHA-256 of the Idempotency-Key with which the account was registered.
ALTER TABLE accounts ADD COLUMN registered_by BYTEA;

-- Profiles that have yet to be made equal to what this database says of the account, gone
-- included: written together with the change, deleted when the user service has it.
CREATE TABLE stale_profiles (
    account_id TEXT PRIMARY KEY,
    -- Grows when a further change is written while one is on its way.
    changes    BIGINT NOT NULL,
    -- Milliseconds since 1970: not tried again before.
    due_at     BIGINT NOT NULL
);
CREATE INDEX stale_profiles_by_time ON stale_profiles (due_at);
