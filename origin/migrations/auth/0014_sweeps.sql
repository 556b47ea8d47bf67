-- What is old is found without a look at all that is not.
CREATE INDEX sessions_by_revocation ON sessions (revoked_at);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);
CREATE INDEX known_addresses_by_time ON known_addresses (last_at);
