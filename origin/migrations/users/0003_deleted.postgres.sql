-- Profiles that were deleted, for as long as an older write may still be on its way: it must
-- not bring one back. An id says nothing of whose it was.
CREATE TABLE deleted_profiles (
    id TEXT PRIMARY KEY,
    -- Milliseconds since 1970.
    at BIGINT NOT NULL
);
CREATE INDEX deleted_profiles_by_time ON deleted_profiles (at);
