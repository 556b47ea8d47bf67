CREATE TABLE profiles (
    id         TEXT PRIMARY KEY,
    email      TEXT NOT NULL UNIQUE,
    first_name TEXT NOT NULL,
    last_name  TEXT NOT NULL,
    -- A JSON array of names; the auth service is the source.
    roles      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
CREATE INDEX profiles_by_creation ON profiles (created_at, id);
