-- Thumbprint (RFC 7638) of the key to which the tokens of a session are bound; NULL for bearer tokens.
ALTER TABLE sessions ADD COLUMN proof_key TEXT;
