-- The outbox on PostgreSQL, version 3. It may be applied again and again.
-- Lists of leases are kept as they are: ids hardly get shorter, and to try took a tenth of the time of a claim.
ALTER TABLE "outbox_lease" ALTER COLUMN "entries" SET STORAGE EXTERNAL;

INSERT INTO "outbox_version" ("version", "applied_at") VALUES (3, clock_timestamp())
    ON CONFLICT ("version") DO NOTHING;
