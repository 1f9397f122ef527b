-- What the coordinator signed about this site's ledger, and what of it was not believed.
CREATE TABLE receipt (
    sequence INTEGER NOT NULL PRIMARY KEY, -- the ledger's entry whose head was logged
    receipt  BLOB    NOT NULL -- consilium.v1.Receipt, with the tree head kept before
) STRICT;

CREATE TABLE evidence (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    reason TEXT    NOT NULL UNIQUE, -- what is wrong; said once
    kept   BLOB    NOT NULL, -- consilium.v1.Signed: the tree head kept before; empty for none
    shown  BLOB    NOT NULL -- the coordinator's answer, as it came
) STRICT;

CREATE TRIGGER receipt_stays BEFORE DELETE ON receipt
BEGIN SELECT RAISE(ABORT, 'receipts stay'); END;
CREATE TRIGGER receipt_keeps_content BEFORE UPDATE ON receipt
BEGIN SELECT RAISE(ABORT, 'receipts stay as they are'); END;
CREATE TRIGGER evidence_stays BEFORE DELETE ON evidence
BEGIN SELECT RAISE(ABORT, 'evidence stays'); END;
CREATE TRIGGER evidence_keeps_content BEFORE UPDATE ON evidence
BEGIN SELECT RAISE(ABORT, 'evidence stays as it is'); END;
