-- An outbox of the first version of the schema, with events in each state, as the shell of SQLite dumped it.
-- Made by the library as it was then: not to be changed.

BEGIN TRANSACTION;
CREATE TABLE IF NOT EXISTS "outbox_version" (
    "version" INTEGER PRIMARY KEY,
    "applied_at" INTEGER NOT NULL
);
INSERT INTO outbox_version VALUES(1,1795960374142);
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
INSERT INTO outbox VALUES(1,X'01900000000070008000000000000001','order.placed','{"n":18446744073709551615,"text":"it''s \"é\" \\ 😀\n","x":1.5}','{"id":"01900000-0000-7000-8000-000000000001","timestamp":"2025-11-23T12:13:20.001Z","resource":"order","resourceId":"1","userId":"u-1","partitionKey":"order-1","idempotencyKey":"k-1","headers":{"tenant":"acme"}}','pending',NULL,X'0e7323f1936d743e71760cb68c9bb636',14,X'7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b',1795960374143,NULL,NULL,0,0,NULL,NULL,NULL);
INSERT INTO outbox VALUES(2,X'01900000000070008000000000000002','order.paid','{"n":2}','{"id":"01900000-0000-7000-8000-000000000002","timestamp":"2025-11-23T12:13:20.002Z","partitionKey":"order-1"}','pending',NULL,X'0e7323f1936d743e71760cb68c9bb636',14,NULL,1795960374144,NULL,NULL,0,0,NULL,NULL,NULL);
INSERT INTO outbox VALUES(3,X'01900000000070008000000000000003','done','null','{"id":"01900000-0000-7000-8000-000000000003","timestamp":"2025-11-23T12:13:20.003Z","idempotencyKey":"k-3"}','delivered',NULL,X'c48281bf712ee70d034a846b64eeabe1',4,X'dcd555df84435cfdb700952239b125974b2625a8e2d735286cf0426d28054554',1795960374145,1795960374147,NULL,0,0,NULL,NULL,NULL);
INSERT INTO outbox VALUES(4,X'01900000000070008000000000000004','later','[]','{"id":"01900000-0000-7000-8000-000000000004","timestamp":"2025-11-23T12:13:20.004Z"}','scheduled',4102444800000,X'e18cd34bb07e4aaa4175ab8bd0c5077c',33,NULL,1795960374145,NULL,NULL,0,0,NULL,NULL,NULL);
INSERT INTO outbox VALUES(5,X'01900000000070008000000000000005','broken','{}','[]','dead_letter',NULL,X'b3e1d216a54c5f96de4bce469c29f1c7',51,NULL,1795960374146,NULL,1795960374148,0,0,NULL,NULL,'the stored meta cannot be read (event 01900000-0000-7000-8000-000000000005): invalid type: sequence, expected the meta of an event at line 1 column 0');
INSERT INTO outbox VALUES(6,X'01900000000070008000000000000006','last','"x"','{"id":"01900000-0000-7000-8000-000000000006","timestamp":"2025-11-23T12:13:20.006Z"}','pending',NULL,X'499ef01bb2341c58d5020dd18047b847',9,NULL,1795960374146,NULL,NULL,0,0,NULL,NULL,NULL);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('outbox',6);
CREATE UNIQUE INDEX "outbox_id" ON "outbox" ("id");
CREATE UNIQUE INDEX "outbox_idempotency" ON "outbox" ("idempotency_hash")
    WHERE "idempotency_hash" IS NOT NULL;
CREATE INDEX "outbox_fifo" ON "outbox" ("seq") WHERE "status" = 'pending';
CREATE INDEX "outbox_scheduled" ON "outbox" ("not_before") WHERE "status" = 'scheduled';
CREATE INDEX "outbox_delivered" ON "outbox" ("delivered_at") WHERE "status" = 'delivered';
CREATE INDEX "outbox_dead_letter" ON "outbox" ("seq") WHERE "status" = 'dead_letter';
COMMIT;
