-- Failed logins in a row, by account and by whether the address is one from which its owner
-- has logged in before: strangers slow each other down, and not the owner. Keys are
-- hashes, so that an address that was tried and belongs to nobody is not stored.
CREATE TABLE login_failures (
    key      BYTEA PRIMARY KEY,
    failures BIGINT NOT NULL,
    last_at  BIGINT NOT NULL
);
CREATE INDEX login_failures_by_time ON login_failures (last_at);

CREATE TABLE known_addresses (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- SHA-256 of account and network address.
    address    BYTEA NOT NULL,
    last_at    BIGINT NOT NULL,
    PRIMARY KEY (account_id, address)
);
