-- Seconds: the latest instant at which an access token of the account says that it was
-- issued, by the clock of whichever process issued it. What ends the account's tokens ends
-- those up to then.
ALTER TABLE accounts ADD COLUMN issued_until INTEGER NOT NULL DEFAULT 0;
