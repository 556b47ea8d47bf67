CREATE TABLE profiles (
    id         TEXT PRIMARY KEY,
    -- Not unique here: the auth service, which is asked first, keeps addresses unique,
    -- and a change that stopped half-way must stand in nobody's way.
    email      TEXT NOT NULL,
    first_name TEXT NOT NULL,
    last_name  TEXT NOT NULL,
    -- A JSON array of names; the auth service is the source.
    roles      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX profiles_by_creation ON profiles (created_at, id);
