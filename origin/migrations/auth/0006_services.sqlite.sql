-- Services beyond the built-in two that may ask for service tokens.
CREATE TABLE services (
    name        TEXT PRIMARY KEY,
    -- SHA-256 of 256 random bits, which no dictionary has.
    secret_hash BLOB NOT NULL,
    -- A JSON array: the services that it may call.
    audiences   TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
