-- The inbox on SQLite, version 1. It may be applied again and again.
-- One row for each version that was applied; it comes first, so that it marks the inbox as one.
CREATE TABLE IF NOT EXISTS "inbox_version" (
    "version" INTEGER PRIMARY KEY,
    "applied_at" INTEGER NOT NULL
);

-- A row for each event that a consumer has processed.
CREATE TABLE IF NOT EXISTS "inbox" (
    "consumer" TEXT NOT NULL,
    "event_id" BLOB NOT NULL,
    -- UTC, in milliseconds since 1970.
    "processed_at" INTEGER NOT NULL,
    PRIMARY KEY ("consumer", "event_id")
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS "inbox_processed" ON "inbox" ("processed_at");

INSERT INTO "inbox_version" ("version", "applied_at")
    VALUES (1, CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
    ON CONFLICT ("version") DO NOTHING;
