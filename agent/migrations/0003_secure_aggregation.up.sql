-- What this site did in attempts with secure aggregation, before it did it. Keys and shares are in memory
-- only; what stands here keeps an attempt from being taken part in twice.
CREATE TABLE attempt (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    study  BLOB    NOT NULL CHECK (length(study) = 16),
    line   BLOB    NOT NULL, -- a record; holds no secret
    chain  BLOB    NOT NULL CHECK (length(chain) = 32) -- digest over this line and the one before
) STRICT;

CREATE INDEX attempt_of_study ON attempt (study);

-- Why this site stopped: its signed complaint, with the messages that made it stop.
CREATE TABLE complaint (
    number    INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    study     BLOB    NOT NULL CHECK (length(study) = 16),
    round     INTEGER NOT NULL,
    attempt   INTEGER NOT NULL,
    violation TEXT    NOT NULL,
    message   BLOB    NOT NULL
) STRICT;

CREATE TRIGGER attempt_stays BEFORE DELETE ON attempt
BEGIN SELECT RAISE(ABORT, 'attempts stay'); END;
CREATE TRIGGER attempt_keeps_content BEFORE UPDATE ON attempt
BEGIN SELECT RAISE(ABORT, 'attempts stay as they are'); END;
CREATE TRIGGER complaint_stays BEFORE DELETE ON complaint
BEGIN SELECT RAISE(ABORT, 'complaints stay'); END;
CREATE TRIGGER complaint_keeps_content BEFORE UPDATE ON complaint
BEGIN SELECT RAISE(ABORT, 'complaints stay as they are'); END;
