-- The outbox on MySQL 8.0 and MariaDB 10.6 or later, version 1. It may be applied again and again.
-- One row for each version that was applied; it comes first, so that it marks the outbox as one.
CREATE TABLE IF NOT EXISTS `outbox_version` (
    `version` INT NOT NULL PRIMARY KEY,
    `applied_at` DATETIME(6) NOT NULL
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS `outbox` (
    -- The order of the outbox.
    `seq` BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    `id` BINARY(16) NOT NULL,
    `type` VARCHAR(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- Text and not JSON: it stays as it was saved.
    `payload` LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    `meta` LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    -- pending, scheduled (pending, and not due yet), delivered or dead_letter.
    `status` VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- All times are UTC.
    `not_before` DATETIME(3),
    -- Of the partition key or, where there is none, of the id; the lane is its first byte modulo 64.
    `partition_hash` BINARY(16) NOT NULL,
    `lane` SMALLINT NOT NULL,
    `idempotency_hash` BINARY(32),
    `created_at` DATETIME(6) NOT NULL,
    `delivered_at` DATETIME(6),
    `dead_at` DATETIME(6),
    `attempts` INT NOT NULL DEFAULT 0,
    `failures` INT NOT NULL DEFAULT 0,
    `first_failed_at` DATETIME(6),
    `last_failed_at` DATETIME(6),
    `last_error` TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    UNIQUE KEY `outbox_id` (`id`),
    UNIQUE KEY `outbox_idempotency` (`idempotency_hash`),
    -- Pending and dead rows in order.
    KEY `outbox_fifo` (`status`, `seq`),
    KEY `outbox_scheduled` (`status`, `not_before`),
    KEY `outbox_delivered` (`status`, `delivered_at`)
) ENGINE = InnoDB;

INSERT INTO `outbox_version` (`version`, `applied_at`) VALUES (1, UTC_TIMESTAMP(6))
    ON DUPLICATE KEY UPDATE `version` = `version`;
