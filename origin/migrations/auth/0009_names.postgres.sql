-- ASCII alone, compared byte by byte as SQLite does: lists are in the same order whatever the
-- server's locale is.
ALTER TABLE roles ALTER COLUMN name TYPE TEXT COLLATE "C";
ALTER TABLE permissions ALTER COLUMN name TYPE TEXT COLLATE "C";
