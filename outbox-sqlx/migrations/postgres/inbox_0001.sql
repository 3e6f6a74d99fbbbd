-- The inbox on PostgreSQL, version 1. It may be applied again and again.
-- One row for each version that was applied; it comes first, so that it marks the inbox as one.
CREATE TABLE IF NOT EXISTS "inbox_version" (
    "version" integer PRIMARY KEY,
    "applied_at" timestamptz NOT NULL
);

-- A row for each event that a consumer has processed.
CREATE TABLE IF NOT EXISTS "inbox" (
    -- Compared byte by byte, whatever the collation of the database.
    "consumer" text COLLATE "C" NOT NULL,
    "event_id" uuid NOT NULL,
    "processed_at" timestamptz NOT NULL,
    CONSTRAINT "inbox_mark" PRIMARY KEY ("consumer", "event_id")
);
CREATE INDEX IF NOT EXISTS "inbox_processed" ON "inbox" ("processed_at");

INSERT INTO "inbox_version" ("version", "applied_at") VALUES (1, clock_timestamp())
    ON CONFLICT ("version") DO NOTHING;
