-- The ledger. `body` is what is hashed; the other columns repeat parts of it, so that the file can be read and searched
-- with the sqlite3 shell. Times are UTC with nine digits, so that text order is time order.
CREATE TABLE ledger (
    number        INTEGER PRIMARY KEY CHECK (number > 0),
    kind          TEXT NOT NULL,
    cluster       TEXT NOT NULL,
    subject       TEXT NOT NULL,
    outcome       TEXT NOT NULL CHECK (outcome IN ('passed', 'failed')),
    started_at    TEXT NOT NULL,
    finished_at   TEXT NOT NULL,
    expires_at    TEXT,
    body          TEXT NOT NULL,
    previous_hash TEXT NOT NULL CHECK (length(previous_hash) = 64),
    hash          TEXT NOT NULL CHECK (length(hash) = 64)
) STRICT;

CREATE INDEX ledger_by_subject ON ledger (cluster, kind, subject, number);

-- Where the chain ends: finds entries removed from its end, which the chain alone cannot show.
CREATE TABLE ledger_head (
    one    INTEGER PRIMARY KEY CHECK (one = 1),
    number INTEGER NOT NULL,
    hash   TEXT NOT NULL
) STRICT;

INSERT INTO ledger_head VALUES (1, 0, '0000000000000000000000000000000000000000000000000000000000000000');

CREATE TRIGGER ledger_follows BEFORE INSERT ON ledger
WHEN NOT EXISTS (SELECT 1 FROM ledger_head WHERE number + 1 = NEW.number AND hash = NEW.previous_hash)
BEGIN
    SELECT RAISE(ABORT, 'an entry must follow the last one');
END;

CREATE TRIGGER ledger_moves_head AFTER INSERT ON ledger
BEGIN
    UPDATE ledger_head SET number = NEW.number, hash = NEW.hash;
END;

CREATE TRIGGER ledger_is_not_updated BEFORE UPDATE ON ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_is_not_deleted BEFORE DELETE ON ledger
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_head_is_not_deleted BEFORE DELETE ON ledger_head
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER ledger_head_only_moves_forward BEFORE UPDATE ON ledger_head
WHEN NOT EXISTS (SELECT 1 FROM ledger WHERE number = NEW.number AND hash = NEW.hash) OR NEW.number != OLD.number + 1
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;
