-- One row, which is written to find out whether anything can be.
CREATE TABLE readiness (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    writes BIGINT NOT NULL
);
INSERT INTO readiness (id, writes) VALUES (1, 0);
