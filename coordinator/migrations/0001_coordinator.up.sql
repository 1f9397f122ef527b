-- Everything that the coordinator remembers. Model weights and updates are not here: they lie
-- sealed in the folder `blobs`. No column holds anything about a patient.

-- Who belongs to the federation: epochs signed by governance, never changed.
CREATE TABLE roster_epochs (
    epoch INTEGER PRIMARY KEY,        -- from 0, without gaps
    signed BLOB NOT NULL              -- consilium.v1.Signed with a RosterBody
) STRICT;

-- Requests to join, admitted or not.
CREATE TABLE applications (
    number INTEGER PRIMARY KEY,       -- order of arrival
    fingerprint BLOB NOT NULL UNIQUE, -- what people compare, 32 bytes
    signed BLOB NOT NULL              -- consilium.v1.Signed with an ApplicationBody
) STRICT;

CREATE TABLE studies (
    id BLOB PRIMARY KEY,              -- 16 bytes
    plan BLOB NOT NULL,               -- canonical JSON; its digest is what sites approve
    layout TEXT NOT NULL,             -- JSON: names and shapes of the tensors
    submitted_by INTEGER NOT NULL,    -- member number
    submitted_at INTEGER NOT NULL,    -- milliseconds since 1970
    chunk_bytes INTEGER NOT NULL,     -- how its vectors are cut
    state TEXT NOT NULL,              -- JSON of the state machine, with the open round
    under_way INTEGER NOT NULL,       -- 1 unless stopped or finished
    revision INTEGER NOT NULL         -- rises with each change of `state`
) STRICT;

CREATE INDEX studies_under_way ON studies (under_way) WHERE under_way = 1;

-- Attempts at rounds that were opened.
CREATE TABLE rounds (
    study BLOB NOT NULL REFERENCES studies (id),
    round INTEGER NOT NULL,           -- from 1
    attempt INTEGER NOT NULL,         -- from 1
    spec BLOB NOT NULL,               -- consilium.v1.Signed with a RoundSpecBody
    PRIMARY KEY (study, round, attempt)
) STRICT;

-- Updates that were accepted. The primary key is what keeps one from being counted twice.
CREATE TABLE updates (
    study BLOB NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    site INTEGER NOT NULL,            -- member number
    digest BLOB NOT NULL,             -- identity of the update's bytes, 32 bytes
    statement BLOB NOT NULL,          -- consilium.v1.Signed with a StatementBody
    PRIMARY KEY (study, round, attempt, site),
    FOREIGN KEY (study, round, attempt) REFERENCES rounds (study, round, attempt)
) STRICT;

-- Published global models.
CREATE TABLE versions (
    study BLOB NOT NULL REFERENCES studies (id),
    number INTEGER NOT NULL,          -- 0 is the start; version r ends round r
    body BLOB NOT NULL,               -- consilium.v1.Version
    PRIMARY KEY (study, number)
) STRICT;

-- Finished models.
CREATE TABLE releases (
    study BLOB PRIMARY KEY REFERENCES studies (id),
    model BLOB NOT NULL,              -- identity of the last version, 32 bytes
    card BLOB NOT NULL                -- consilium.v1.Signed with the JSON model card
) STRICT;

-- What is decided and still to be done; a row goes when it was done.
CREATE TABLE effects (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    study BLOB NOT NULL REFERENCES studies (id),
    effect TEXT NOT NULL              -- JSON
) STRICT;

-- What watchers of a study are told.
CREATE TABLE events (
    study BLOB NOT NULL REFERENCES studies (id),
    number INTEGER NOT NULL,          -- from 0, without gaps
    body BLOB NOT NULL,               -- consilium.v1.StudyEvent
    PRIMARY KEY (study, number)
) STRICT;

-- The audit log: hash-chained, never changed.
CREATE TABLE audit_log (
    sequence INTEGER PRIMARY KEY,     -- from 1, without gaps
    body BLOB NOT NULL                -- consilium.v1.LogEntry
) STRICT;
