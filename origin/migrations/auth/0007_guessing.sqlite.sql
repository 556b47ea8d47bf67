-- Failed logins in a row, by account and by whether the address is one from which its owner
-- has logged in before: strangers slow each other down, and not the owner. Keys are
-- hashes, so that an address that was tried and belongs to nobody is not stored.
CREATE TABLE login_failures (
    key      BLOB PRIMARY KEY,
    failures INTEGER NOT NULL,
    last_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX login_failures_by_time ON login_failures (last_at);

CREATE TABLE known_addresses (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    -- SHA-256 of account and network address.
    address    BLOB NOT NULL,
    last_at    INTEGER NOT NULL,
    PRIMARY KEY (account_id, address)
) STRICT, WITHOUT ROWID;
