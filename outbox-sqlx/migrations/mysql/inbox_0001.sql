-- The inbox on MySQL 8.0 and MariaDB 10.6 or later, version 1. It may be applied again and again.
-- One row for each version that was applied; it comes first, so that it marks the inbox as one.
CREATE TABLE IF NOT EXISTS `inbox_version` (
    `version` INT NOT NULL PRIMARY KEY,
    `applied_at` DATETIME(6) NOT NULL
) ENGINE = InnoDB;

-- A row for each event that a consumer has processed.
CREATE TABLE IF NOT EXISTS `inbox` (
    -- Up to 200 characters in UTF-8. Bytes and not text, whose trailing spaces would not count.
    `consumer` VARBINARY(800) NOT NULL,
    `event_id` BINARY(16) NOT NULL,
    -- UTC.
    `processed_at` DATETIME(6) NOT NULL,
    PRIMARY KEY (`consumer`, `event_id`),
    KEY `inbox_processed` (`processed_at`)
) ENGINE = InnoDB;

INSERT INTO `inbox_version` (`version`, `applied_at`) VALUES (1, UTC_TIMESTAMP(6))
    ON DUPLICATE KEY UPDATE `version` = `version`;
