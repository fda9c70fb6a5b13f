-- Samples and what belongs to them. docs/format/samples.md describes the columns that are no plain values.
-- Times are milliseconds since 1970, UTC.

CREATE TABLE target (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What is collected of a target in one go, under one timestamp.
CREATE TABLE stream (
    id       INTEGER PRIMARY KEY,
    target   INTEGER NOT NULL,
    name     TEXT NOT NULL,
    every_ms INTEGER NOT NULL,
    UNIQUE (target, name)
) STRICT;

CREATE TABLE label (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL,
    value TEXT NOT NULL
) STRICT;

-- `labels` is a JSON array of label ids; `last_ms` is where the series ended, NULL while it goes on.
CREATE TABLE series (
    id       INTEGER PRIMARY KEY,
    stream   INTEGER NOT NULL,
    labels   TEXT NOT NULL,
    first_ms INTEGER NOT NULL,
    last_ms  INTEGER,
    sum      INTEGER NOT NULL
) STRICT;

-- Which series the values of fresh rows belong to, in their order.
CREATE TABLE layout (
    id     INTEGER PRIMARY KEY,
    series BLOB NOT NULL
) STRICT;

-- One cycle of a stream: all its values.
CREATE TABLE fresh (
    id     INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    at_ms  INTEGER NOT NULL,
    layout INTEGER NOT NULL,
    data   BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX fresh_by_time ON fresh (stream, at_ms);

-- A stretch of a stream whose values were regrouped by series: what its chunks have in common.
-- `bucket_ms` is 0 for the samples themselves, else the length of what an aggregate stands for.
CREATE TABLE block (
    id        INTEGER PRIMARY KEY,
    stream    INTEGER NOT NULL,
    bucket_ms INTEGER NOT NULL,
    start_ms  INTEGER NOT NULL,
    end_ms    INTEGER NOT NULL,
    cycles    INTEGER NOT NULL,
    times     BLOB NOT NULL,
    series    BLOB NOT NULL
) STRICT;

CREATE INDEX block_by_time ON block (stream, bucket_ms, end_ms);

-- The values of one series in one block; the id is block * 2^31 + series.
CREATE TABLE chunk (
    id   INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE metric (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    help TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Records of one kind, one target and some moments: JSON, compressed.
CREATE TABLE record (
    id       INTEGER PRIMARY KEY,
    kind     INTEGER NOT NULL,
    target   INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms   INTEGER NOT NULL,
    folded   INTEGER NOT NULL,
    data     BLOB NOT NULL
) STRICT;

CREATE INDEX record_by_time ON record (kind, target, folded, end_ms);

CREATE TABLE query_text (
    target       INTEGER NOT NULL,
    query_id     INTEGER NOT NULL,
    text         TEXT NOT NULL,
    first_ms     INTEGER NOT NULL,
    last_ms      INTEGER NOT NULL,
    PRIMARY KEY (target, query_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE plan (
    id       INTEGER PRIMARY KEY,
    target   INTEGER NOT NULL,
    query_id INTEGER NOT NULL,
    hash     TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    last_ms  INTEGER NOT NULL,
    plan     TEXT NOT NULL,
    UNIQUE (target, query_id, hash)
) STRICT;

-- `key` names what happened, so that the same is not told twice.
CREATE TABLE event (
    id     INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    target TEXT NOT NULL,
    kind   TEXT NOT NULL,
    title  TEXT NOT NULL,
    detail TEXT NOT NULL,
    key    TEXT
) STRICT;

CREATE INDEX event_by_time ON event (at_ms);
CREATE UNIQUE INDEX event_by_key ON event (key) WHERE key IS NOT NULL;

-- What waits to be sent to another store.
CREATE TABLE outbox (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    queue   TEXT NOT NULL,
    at_ms   INTEGER NOT NULL,
    samples INTEGER NOT NULL,
    bytes   INTEGER NOT NULL,
    sum     INTEGER NOT NULL,
    body    BLOB NOT NULL
) STRICT;

CREATE INDEX outbox_by_queue ON outbox (queue, id);

CREATE TABLE outbox_state (
    queue           TEXT PRIMARY KEY,
    parcels         INTEGER NOT NULL,
    bytes           INTEGER NOT NULL,
    samples         INTEGER NOT NULL,
    dropped_parcels INTEGER NOT NULL,
    dropped_samples INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE VIEW series_text AS
SELECT s.id, t.name AS target, st.name AS stream,
       (SELECT l.value FROM json_each(s.labels) AS j JOIN label AS l ON l.id = j.value WHERE l.name = '__name__') AS metric,
       (SELECT group_concat(l.name || '="' || l.value || '"', ', ')
          FROM json_each(s.labels) AS j JOIN label AS l ON l.id = j.value WHERE l.name <> '__name__') AS labels,
       datetime(s.first_ms / 1000, 'unixepoch') AS first, datetime(s.last_ms / 1000, 'unixepoch') AS last
FROM series AS s JOIN stream AS st ON st.id = s.stream JOIN target AS t ON t.id = st.target;

CREATE VIEW block_text AS
SELECT b.id, t.name AS target, st.name AS stream, b.bucket_ms, b.cycles,
       datetime(b.start_ms / 1000, 'unixepoch') AS start, datetime(b.end_ms / 1000, 'unixepoch') AS end,
       (SELECT count(*) FROM chunk AS c WHERE c.id BETWEEN b.id << 31 AND (b.id << 31) + 2147483647) AS chunks,
       (SELECT sum(length(c.data)) FROM chunk AS c
         WHERE c.id BETWEEN b.id << 31 AND (b.id << 31) + 2147483647) AS bytes
FROM block AS b JOIN stream AS st ON st.id = b.stream JOIN target AS t ON t.id = st.target;
