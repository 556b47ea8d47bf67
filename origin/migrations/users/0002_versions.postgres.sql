-- Of the account that the profile was last made equal to; an older one changes nothing.
ALTER TABLE profiles ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
-- ASCII alone, compared byte by byte as SQLite does.
ALTER TABLE profiles ALTER COLUMN email TYPE TEXT COLLATE "C";
CREATE INDEX profiles_by_email ON profiles (email, id);
