-- Of the account that the profile was last made equal to; an older one changes nothing.
ALTER TABLE profiles ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
CREATE INDEX profiles_by_email ON profiles (email, id);
