-- Profiles of before there were versions say 0 where their accounts say 1, and one or the
-- other may be half of a change: all are made equal once.
INSERT INTO stale_profiles (account_id, changes, due_at) SELECT id, 1, 0 FROM accounts;
