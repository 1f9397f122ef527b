-- What one agent remembers. Times are seconds since 1970 by this machine's clock.

CREATE TABLE data_set (
    name          TEXT    NOT NULL PRIMARY KEY, -- as plans name it
    public_size   INTEGER NOT NULL CHECK (public_size > 0), -- declared, or a charged noisy count
    records       INTEGER NOT NULL, -- true count, never leaves the site
    patients      INTEGER NOT NULL, -- true count, never leaves the site
    manifest      BLOB    NOT NULL, -- sealed, context "data_set/<name>/manifest"
    registered_at INTEGER NOT NULL
) STRICT;

CREATE TABLE exclusion (
    data_set TEXT    NOT NULL REFERENCES data_set (name) ON DELETE CASCADE,
    patient  TEXT    NOT NULL, -- pseudonym, keyed by this site
    at       INTEGER NOT NULL,
    PRIMARY KEY (data_set, patient)
) STRICT;

CREATE TABLE study (
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    plan_digest      BLOB    NOT NULL CHECK (length(plan_digest) = 32), -- what approval covers
    plan             BLOB    NOT NULL, -- canonical JSON of exactly that digest
    seen_at          INTEGER NOT NULL,
    decision         TEXT    CHECK (decision IN ('approved', 'refused')), -- NULL: not yet decided
    reason           TEXT    NOT NULL DEFAULT '', -- why refused, for people
    decided_at       INTEGER,
    sent             INTEGER NOT NULL DEFAULT 0 CHECK (sent IN (0, 1)), -- coordinator has it
    ended            INTEGER NOT NULL DEFAULT 0 CHECK (ended IN (0, 1)), -- no more rounds
    sampling_rate    REAL    CHECK (sampling_rate > 0), -- q, fixed before the first round
    noise_multiplier REAL    CHECK (noise_multiplier > 0), -- sigma, fixed with it
    public_size      INTEGER CHECK (public_size > 0) -- that both were fixed for
) STRICT;

CREATE TABLE version (
    study  BLOB    NOT NULL REFERENCES study (id),
    number INTEGER NOT NULL CHECK (number >= 0), -- 0 is the start
    digest BLOB    NOT NULL CHECK (length(digest) = 32), -- as first seen; never changed
    PRIMARY KEY (study, number)
) STRICT;

CREATE TABLE round (
    study        BLOB    NOT NULL REFERENCES study (id),
    number       INTEGER NOT NULL CHECK (number > 0),
    data_set     TEXT    NOT NULL, -- whose patients it used
    model_digest BLOB    NOT NULL CHECK (length(model_digest) = 32), -- it started from this
    trainings    INTEGER NOT NULL, -- times that training began; more than one only after a crash
    offered      INTEGER NOT NULL DEFAULT 0 CHECK (offered IN (0, 1)), -- bytes may have left
    accepted     INTEGER NOT NULL DEFAULT 0 CHECK (accepted IN (0, 1)), -- coordinator has it
    began_at     INTEGER NOT NULL,
    PRIMARY KEY (study, number)
) STRICT;

CREATE TABLE ledger (
    sequence INTEGER NOT NULL PRIMARY KEY, -- from 1 without gaps
    entry    BLOB    NOT NULL -- canonical bytes and hash
) STRICT;

CREATE TABLE event (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    action TEXT    NOT NULL, -- closed set, see store/log.rs
    detail TEXT    NOT NULL  -- JSON; patients by pseudonym alone
) STRICT;

-- Charges and events are facts: nobody takes them back.
CREATE TRIGGER ledger_keeps_entries BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger entries stay'); END;
CREATE TRIGGER ledger_keeps_content BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'ledger entries stay as they are'); END;
CREATE TRIGGER event_stays BEFORE DELETE ON event
BEGIN SELECT RAISE(ABORT, 'events stay'); END;
CREATE TRIGGER event_keeps_content BEFORE UPDATE ON event
BEGIN SELECT RAISE(ABORT, 'events stay as they are'); END;
