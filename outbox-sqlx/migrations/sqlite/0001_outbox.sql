-- The outbox on SQLite, version 1. It may be applied again and again.
-- One row for each version that was applied; it comes first, so that it marks the outbox as one.
CREATE TABLE IF NOT EXISTS "outbox_version" (
    "version" INTEGER PRIMARY KEY,
    "applied_at" INTEGER NOT NULL
);

CREATE TABLE IF NOT EXISTS "outbox" (
    -- The order of the outbox. AUTOINCREMENT: the number of a deleted row never comes again.
    "seq" INTEGER PRIMARY KEY AUTOINCREMENT,
    "id" BLOB NOT NULL CHECK (typeof("id") = 'blob' AND length("id") = 16),
    "type" TEXT NOT NULL,
    "payload" TEXT NOT NULL,
    "meta" TEXT NOT NULL,
    -- pending, scheduled (pending, and not due yet), delivered or dead_letter.
    "status" TEXT NOT NULL,
    -- All times are UTC, in milliseconds since 1970.
    "not_before" INTEGER,
    -- Of the partition key or, where there is none, of the id; the lane is its first byte modulo 64.
    "partition_hash" BLOB NOT NULL,
    "lane" INTEGER NOT NULL,
    "idempotency_hash" BLOB,
    "created_at" INTEGER NOT NULL,
    "delivered_at" INTEGER,
    "dead_at" INTEGER,
    "attempts" INTEGER NOT NULL DEFAULT 0,
    "failures" INTEGER NOT NULL DEFAULT 0,
    "first_failed_at" INTEGER,
    "last_failed_at" INTEGER,
    "last_error" TEXT
);

CREATE UNIQUE INDEX IF NOT EXISTS "outbox_id" ON "outbox" ("id");
CREATE UNIQUE INDEX IF NOT EXISTS "outbox_idempotency" ON "outbox" ("idempotency_hash")
    WHERE "idempotency_hash" IS NOT NULL;
CREATE INDEX IF NOT EXISTS "outbox_fifo" ON "outbox" ("seq") WHERE "status" = 'pending';
CREATE INDEX IF NOT EXISTS "outbox_scheduled" ON "outbox" ("not_before") WHERE "status" = 'scheduled';
CREATE INDEX IF NOT EXISTS "outbox_delivered" ON "outbox" ("delivered_at") WHERE "status" = 'delivered';
CREATE INDEX IF NOT EXISTS "outbox_dead_letter" ON "outbox" ("seq") WHERE "status" = 'dead_letter';

INSERT INTO "outbox_version" ("version", "applied_at")
    VALUES (1, CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
    ON CONFLICT ("version") DO NOTHING;
