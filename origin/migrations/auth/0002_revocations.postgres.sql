-- Seconds. Access tokens that were issued up to then are revoked; the next ones say that
-- they were issued later.
ALTER TABLE accounts ADD COLUMN revoked_until BIGINT NOT NULL DEFAULT 0;

-- What the gateway has yet to be told: written together with what it is about, deleted
-- when the gateway has it.
CREATE TABLE outbox (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- One item of a push, as JSON.
    revocation TEXT NOT NULL,
    -- After this none of the tokens is alive, and nobody needs to be told.
    expires_at BIGINT NOT NULL
);
