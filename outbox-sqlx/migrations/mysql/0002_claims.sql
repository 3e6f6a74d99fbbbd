-- The outbox on MySQL 8.0 and MariaDB 10.6 or later, version 2: claims. It may be applied again and again.
-- Two more states of an event: waiting (it failed, and waits for its retry) and parked (pending, and set aside
-- because a claim met it behind a busy key). Either has a row in outbox_parked, and its key one in outbox_key.
-- A row for each claim that is not settled; after a partial renewal one for each end of its leases.
CREATE TABLE IF NOT EXISTS `outbox_lease` (
    `token` BINARY(16) NOT NULL,
    `leased_until` DATETIME(6) NOT NULL,
    `claimed_at` DATETIME(6) NOT NULL,
    `worker` TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- 41 bytes an event: its id, the hash of its key, its seq, and whether it was parked or waiting.
    `entries` LONGBLOB NOT NULL,
    PRIMARY KEY (`token`, `leased_until`)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS `outbox_key` (
    `partition_hash` BINARY(16) NOT NULL PRIMARY KEY,
    -- When an event of the key can be handed out again: after its lease, and after the last of its retries.
    `ready_at` DATETIME(6) NOT NULL,
    KEY `outbox_key_ready` (`ready_at`, `partition_hash`)
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS `outbox_parked` (
    `seq` BIGINT NOT NULL PRIMARY KEY,
    `id` BINARY(16) NOT NULL,
    `partition_hash` BINARY(16) NOT NULL,
    -- NULL where it waits for no retry.
    `retry_at` DATETIME(6),
    KEY `outbox_parked_id` (`id`),
    KEY `outbox_parked_key` (`partition_hash`, `seq`),
    -- When a key waits for the last time.
    KEY `outbox_parked_last` (`partition_hash`, `retry_at`),
    KEY `outbox_parked_retry` (`retry_at`, `seq`)
) ENGINE = InnoDB;

-- Claims lock this row, one after the other.
INSERT INTO `outbox_version` (`version`, `applied_at`) VALUES (2, UTC_TIMESTAMP(6))
    ON DUPLICATE KEY UPDATE `version` = `version`;
