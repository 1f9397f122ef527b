-- Which models are served here, who may ask them, and what they said.
CREATE TABLE model (
    id          TEXT    NOT NULL PRIMARY KEY, -- first 16 hexadecimal digits of the weights' SHA-256
    sha256      BLOB    NOT NULL UNIQUE CHECK (length(sha256) = 32), -- of the file of weights
    plan_digest BLOB    NOT NULL CHECK (length(plan_digest) = 32),
    study       TEXT    NOT NULL, -- the plan's name
    place       TEXT    NOT NULL, -- what it is for: task and data set; one model of a place is served
    added_at    INTEGER NOT NULL
) STRICT;

-- Models that a place had, the newest in service. A roll-back takes the newest away; that it was there
-- stands in `record`.
CREATE TABLE activation (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    place  TEXT    NOT NULL,
    model  TEXT    NOT NULL REFERENCES model (id),
    at     INTEGER NOT NULL
) STRICT;

CREATE TABLE access (
    name    TEXT    NOT NULL PRIMARY KEY, -- a person or a program
    duty    TEXT    NOT NULL CHECK (duty IN ('clinician', 'steward')),
    digest  BLOB    NOT NULL UNIQUE CHECK (length(digest) = 32), -- of the token, which is nowhere
    made_at INTEGER NOT NULL
) STRICT;

-- What was done and said, chained: see store/chronicle.rs. No patient data; comments are sealed.
CREATE TABLE record (
    number  INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- without gaps
    at      INTEGER NOT NULL,
    who     TEXT    NOT NULL,
    act     TEXT    NOT NULL, -- closed set, see store/chronicle.rs
    subject TEXT    NOT NULL, -- prediction, model or name that it is about
    body    TEXT    NOT NULL, -- JSON
    comment BLOB, -- sealed, context "record/<number>/comment"
    chain   BLOB    NOT NULL CHECK (length(chain) = 32) -- digest over this row and the one before
) STRICT;

CREATE INDEX record_of_subject ON record (subject);

-- The last record that is no longer kept; the first kept one is chained to it.
CREATE TABLE record_start (
    only   INTEGER NOT NULL PRIMARY KEY CHECK (only = 1),
    number INTEGER NOT NULL,
    chain  BLOB    NOT NULL CHECK (length(chain) = 32)
) STRICT;
INSERT INTO record_start VALUES (1, 0, zeroblob(32));

CREATE TRIGGER record_stays BEFORE DELETE ON record
WHEN OLD.number > (SELECT number FROM record_start)
BEGIN SELECT RAISE(ABORT, 'records stay while they are kept'); END;
CREATE TRIGGER record_keeps_content BEFORE UPDATE ON record
BEGIN SELECT RAISE(ABORT, 'records stay as they are'); END;
