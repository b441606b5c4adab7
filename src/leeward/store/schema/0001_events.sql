-- Events, one column for each field of model.Event under the same name; absent text is '', an absent number NULL.
-- A migration is forward only, and each statement may run twice: one that was interrupted is simply run again.
-- Partitions are UTC days of receipt, which is fixed in the log: a replayed block is the same block in the same day.
-- Part settings: a part is synced before the insert is answered, and the last 10,000 blocks are known by their token.
CREATE TABLE IF NOT EXISTS events
(
    project UInt32,
    kind LowCardinality(String),
    id String CODEC(ZSTD(1)),
    name LowCardinality(String),
    received_at Int64 CODEC(Delta, ZSTD(1)),
    timestamp Int64 CODEC(Delta, ZSTD(1)),
    data String DEFAULT '{}' CODEC(ZSTD(1)),
    level LowCardinality(String),
    status LowCardinality(String),
    distinct_id String CODEC(ZSTD(1)),
    session_id String CODEC(ZSTD(1)),
    device_id String CODEC(ZSTD(1)),
    correlation_id String CODEC(ZSTD(1)),
    trace_id String CODEC(ZSTD(1)),
    span_id String CODEC(ZSTD(1)),
    parent_span_id String CODEC(ZSTD(1)),
    service LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    duration_ms Nullable(Float64),
    value Nullable(Float64),
    unit LowCardinality(String),
    input_tokens Nullable(Int64),
    output_tokens Nullable(Int64),
    error_type LowCardinality(String),
    error_message String CODEC(ZSTD(1)),
    error_stack String CODEC(ZSTD(1)),
    error_category LowCardinality(String),
    error_fingerprint String CODEC(ZSTD(1)),
    error_rest String CODEC(ZSTD(1)),
    batch_id String CODEC(ZSTD(1)),
    attributes String CODEC(ZSTD(1)),
    wal_instance LowCardinality(String),
    wal_segment UInt32 CODEC(ZSTD(1)),
    wal_position UInt64 CODEC(Delta, ZSTD(1)),
    INDEX by_timestamp timestamp TYPE minmax GRANULARITY 1,
    INDEX by_wal_position wal_position TYPE minmax GRANULARITY 1,
    INDEX by_distinct_id distinct_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_session_id session_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_correlation_id correlation_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_trace_id trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_batch_id batch_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(fromUnixTimestamp64Milli(received_at, 'UTC'))
ORDER BY (project, received_at, wal_position)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1;

-- The ids of the id window, for the question "was it stored?". Small granules: a look-up reads one for each id.
CREATE TABLE IF NOT EXISTS event_ids
(
    project UInt32,
    kind LowCardinality(String),
    id String CODEC(ZSTD(1)),
    received_at Int64 CODEC(ZSTD(1)),
    wal_instance LowCardinality(String),
    wal_position UInt64 CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(fromUnixTimestamp64Milli(received_at, 'UTC'))
ORDER BY (project, kind, id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    index_granularity = 256;

CREATE MATERIALIZED VIEW IF NOT EXISTS event_ids_of_events TO event_ids AS
SELECT project, kind, id, received_at, wal_instance, wal_position FROM events;

-- A batch's answer as it was given, kept as long as its events.
CREATE TABLE IF NOT EXISTS batches
(
    project UInt32,
    batch_id String,
    received_at Int64,
    answer String CODEC(ZSTD(1)),
    wal_instance LowCardinality(String),
    wal_position UInt64,
    updated_at Int64 DEFAULT toUnixTimestamp64Milli(now64(3))
)
ENGINE = MergeTree
PARTITION BY toYYYYMMDD(fromUnixTimestamp64Milli(received_at, 'UTC'))
ORDER BY (project, batch_id)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    index_granularity = 1024;
