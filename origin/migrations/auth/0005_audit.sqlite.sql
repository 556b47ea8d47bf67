-- Who did what, and what became of it. Holds no token, no password and no body.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    event_type TEXT NOT NULL,
    -- 'success', 'denied' or 'failure'.
    result     TEXT NOT NULL,
    user_id    TEXT,
    entity_id  TEXT,
    operation  TEXT NOT NULL,
    request_id TEXT,
    trace_id   TEXT,
    span_id    TEXT,
    ip_address TEXT,
    user_agent TEXT,
    -- A stable code.
    detail     TEXT,
    -- Milliseconds since 1970.
    at         INTEGER NOT NULL
) STRICT;
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_user ON audit (user_id, id);
CREATE INDEX audit_by_type ON audit (event_type, id);
