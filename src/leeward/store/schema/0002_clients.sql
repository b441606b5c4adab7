-- What clients say of themselves with their batches, and what became of their numbered events: loss accounting.
-- The columns are empty for a batch that says nothing. `client_received` counts its events that were not known before.
ALTER TABLE batches
    ADD COLUMN IF NOT EXISTS client_process String CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS client_highest UInt64 CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS client_received UInt64 CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS client_lost Map(String, UInt64) CODEC(ZSTD(1));

-- One row a process, summed up by merges. It outlives the batches: a client that runs for longer than they are kept
-- would else seem to have lost its beginning.
CREATE TABLE IF NOT EXISTS clients
(
    project UInt32,
    process String CODEC(ZSTD(1)),
    first_seen SimpleAggregateFunction(min, Int64),
    last_seen SimpleAggregateFunction(max, Int64),
    highest SimpleAggregateFunction(max, UInt64),
    received SimpleAggregateFunction(sum, UInt64),
    lost SimpleAggregateFunction(sumMap, Map(String, UInt64))
)
ENGINE = AggregatingMergeTree
ORDER BY (project, process)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1, fsync_part_directory = 1,
    index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS clients_of_batches TO clients AS
SELECT project, client_process AS process, received_at AS first_seen, received_at AS last_seen,
    client_highest AS highest, client_received AS received, client_lost AS lost
FROM batches WHERE client_process != '';
