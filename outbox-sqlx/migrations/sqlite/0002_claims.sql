-- The outbox on SQLite, version 2: claims. It may be applied again and again.
-- Two more states of an event: `waiting` (it failed, and waits for its retry) and `parked` (pending, and set aside
-- because a claim met it behind a busy key). Either has a row in outbox_parked, and its key one in outbox_key.
-- A row for each claim that is not settled; after a partial renewal one for each end of its leases.
CREATE TABLE IF NOT EXISTS "outbox_lease" (
    "token" BLOB NOT NULL,
    "leased_until" INTEGER NOT NULL,
    "claimed_at" INTEGER NOT NULL,
    "worker" TEXT NOT NULL,
    -- 41 bytes an event: its id, the hash of its key, its seq, and whether it was parked or waiting.
    "entries" BLOB NOT NULL,
    PRIMARY KEY ("token", "leased_until")
);

CREATE TABLE IF NOT EXISTS "outbox_key" (
    "partition_hash" BLOB NOT NULL PRIMARY KEY,
    -- When an event of the key can be handed out again: after its lease, and after the last of its retries.
    "ready_at" INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS "outbox_key_ready" ON "outbox_key" ("ready_at", "partition_hash");

CREATE TABLE IF NOT EXISTS "outbox_parked" (
    "seq" INTEGER NOT NULL PRIMARY KEY,
    "id" BLOB NOT NULL,
    "partition_hash" BLOB NOT NULL,
    -- NULL where it waits for no retry.
    "retry_at" INTEGER
);
CREATE INDEX IF NOT EXISTS "outbox_parked_id" ON "outbox_parked" ("id");
CREATE INDEX IF NOT EXISTS "outbox_parked_key" ON "outbox_parked" ("partition_hash", "seq");
-- When a key waits for the last time.
CREATE INDEX IF NOT EXISTS "outbox_parked_last" ON "outbox_parked" ("partition_hash", "retry_at");
CREATE INDEX IF NOT EXISTS "outbox_parked_retry" ON "outbox_parked" ("retry_at", "seq");

INSERT INTO "outbox_version" ("version", "applied_at")
    VALUES (2, CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
    ON CONFLICT ("version") DO NOTHING;
