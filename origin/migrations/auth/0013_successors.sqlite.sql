-- The refresh token that took a spent one's place, encrypted with a key that only the spent
-- one gives: whoever shows that again within seconds gets the same successor.
ALTER TABLE refresh_tokens ADD COLUMN successor BLOB;
