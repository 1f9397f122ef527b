-- The transparency log: heads of the sites' ledgers, in the order they came, never changed. Its
-- Merkle tree is built from these rows when the coordinator starts.
CREATE TABLE leaves (
    number INTEGER PRIMARY KEY,       -- from 0, without gaps: position in the tree
    head BLOB NOT NULL                -- consilium.v1.Signed with a LedgerHeadBody: the leaf itself
) STRICT;

CREATE TRIGGER leaves_stay BEFORE DELETE ON leaves
BEGIN SELECT RAISE(ABORT, 'leaves stay'); END;
CREATE TRIGGER leaves_keep_content BEFORE UPDATE ON leaves
BEGIN SELECT RAISE(ABORT, 'leaves stay as they are'); END;
