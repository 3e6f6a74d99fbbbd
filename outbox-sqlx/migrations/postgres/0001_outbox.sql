-- The outbox on PostgreSQL, version 1. It may be applied again and again.
-- One row for each version that was applied; it comes first, so that it marks the outbox as one.
CREATE TABLE IF NOT EXISTS "outbox_version" (
    "version" integer PRIMARY KEY,
    "applied_at" timestamptz NOT NULL
);

CREATE TABLE IF NOT EXISTS "outbox" (
    -- The order of the outbox. CACHE 1, the default, is what makes it causal.
    "seq" bigint GENERATED ALWAYS AS IDENTITY,
    "id" uuid NOT NULL,
    "type" text NOT NULL,
    -- json and not jsonb: the text stays as it was saved, NUL escapes and the order of keys included.
    "payload" json NOT NULL,
    "meta" json NOT NULL,
    -- pending, scheduled (pending, and not due yet), delivered or dead_letter.
    "status" text NOT NULL,
    "not_before" timestamptz,
    -- Of the partition key or, where there is none, of the id; the lane is its first byte modulo 64.
    "partition_hash" bytea NOT NULL,
    "lane" smallint NOT NULL,
    "idempotency_hash" bytea,
    "created_at" timestamptz NOT NULL,
    "delivered_at" timestamptz,
    "dead_at" timestamptz,
    "attempts" integer NOT NULL DEFAULT 0,
    "failures" integer NOT NULL DEFAULT 0,
    "first_failed_at" timestamptz,
    "last_failed_at" timestamptz,
    "last_error" text,
    CONSTRAINT "outbox_id" PRIMARY KEY ("id")
);

CREATE UNIQUE INDEX IF NOT EXISTS "outbox_idempotency" ON "outbox" ("idempotency_hash")
    WHERE "idempotency_hash" IS NOT NULL;
CREATE INDEX IF NOT EXISTS "outbox_fifo" ON "outbox" ("seq") WHERE "status" = 'pending';
CREATE INDEX IF NOT EXISTS "outbox_scheduled" ON "outbox" ("not_before") WHERE "status" = 'scheduled';
CREATE INDEX IF NOT EXISTS "outbox_delivered" ON "outbox" ("delivered_at") WHERE "status" = 'delivered';
CREATE INDEX IF NOT EXISTS "outbox_dead_letter" ON "outbox" ("seq") WHERE "status" = 'dead_letter';

INSERT INTO "outbox_version" ("version", "applied_at") VALUES (1, clock_timestamp())
    ON CONFLICT ("version") DO NOTHING;
