-- The journals of attempts with secure aggregation: what came and what was decided, in order. What is
-- sent follows from what stands here, so it is written first. With the uploads it is all that
-- the coordinator has seen. Lines are never changed.
CREATE TABLE journal (
    study BLOB NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,          -- from 0, without gaps
    line BLOB NOT NULL,               -- a record, its kind in the first byte
    PRIMARY KEY (study, round, attempt, number),
    FOREIGN KEY (study, round, attempt) REFERENCES rounds (study, round, attempt)
) STRICT;

-- Kind 8 is a signed list of survivors. Two of them would open two sums: there is one for an attempt.
CREATE UNIQUE INDEX journal_has_one_list ON journal (study, round, attempt)
WHERE substr(line, 1, 1) = x'08';

CREATE TRIGGER journal_stays BEFORE DELETE ON journal
BEGIN SELECT RAISE(ABORT, 'journal lines stay'); END;
CREATE TRIGGER journal_keeps_content BEFORE UPDATE ON journal
BEGIN SELECT RAISE(ABORT, 'journal lines stay as they are'); END;
