-- An outbox of the first version of the schema, with events in each state, as mysqldump dumped it.
-- Made by the library as it was then: not to be changed.

CREATE TABLE `outbox` (
  `seq` bigint(20) NOT NULL AUTO_INCREMENT,
  `id` binary(16) NOT NULL,
  `type` varchar(256) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `payload` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `meta` longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
  `status` varchar(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
  `not_before` datetime(3) DEFAULT NULL,
  `partition_hash` binary(16) NOT NULL,
  `lane` smallint(6) NOT NULL,
  `idempotency_hash` binary(32) DEFAULT NULL,
  `created_at` datetime(6) NOT NULL,
  `delivered_at` datetime(6) DEFAULT NULL,
  `dead_at` datetime(6) DEFAULT NULL,
  `attempts` int(11) NOT NULL DEFAULT 0,
  `failures` int(11) NOT NULL DEFAULT 0,
  `first_failed_at` datetime(6) DEFAULT NULL,
  `last_failed_at` datetime(6) DEFAULT NULL,
  `last_error` text CHARACTER SET utf8mb4 COLLATE utf8mb4_bin DEFAULT NULL,
  PRIMARY KEY (`seq`),
  UNIQUE KEY `outbox_id` (`id`),
  UNIQUE KEY `outbox_idempotency` (`idempotency_hash`),
  KEY `outbox_fifo` (`status`,`seq`),
  KEY `outbox_scheduled` (`status`,`not_before`),
  KEY `outbox_delivered` (`status`,`delivered_at`)
) ENGINE=InnoDB AUTO_INCREMENT=7 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;

INSERT INTO `outbox` (`seq`, `id`, `type`, `payload`, `meta`, `status`, `not_before`, `partition_hash`, `lane`, `idempotency_hash`, `created_at`, `delivered_at`, `dead_at`, `attempts`, `failures`, `first_failed_at`, `last_failed_at`, `last_error`) VALUES (1,0x01900000000070008000000000000001,'order.placed','{\"n\":18446744073709551615,\"text\":\"it\'s \\\"é\\\" \\\\ 😀\\n\",\"x\":1.5}','{\"id\":\"01900000-0000-7000-8000-000000000001\",\"timestamp\":\"2025-11-23T12:13:20.001Z\",\"resource\":\"order\",\"resourceId\":\"1\",\"userId\":\"u-1\",\"partitionKey\":\"order-1\",\"idempotencyKey\":\"k-1\",\"headers\":{\"tenant\":\"acme\"}}','pending',NULL,0x0E7323F1936D743E71760CB68C9BB636,14,0x7C35C5A1785D20704E44D5DE4BEB81C1FCE91B6FE48ED7C3159AF6F7F832078B,'2026-11-29 13:52:54.132209',NULL,NULL,0,0,NULL,NULL,NULL);
INSERT INTO `outbox` (`seq`, `id`, `type`, `payload`, `meta`, `status`, `not_before`, `partition_hash`, `lane`, `idempotency_hash`, `created_at`, `delivered_at`, `dead_at`, `attempts`, `failures`, `first_failed_at`, `last_failed_at`, `last_error`) VALUES (2,0x01900000000070008000000000000002,'order.paid','{\"n\":2}','{\"id\":\"01900000-0000-7000-8000-000000000002\",\"timestamp\":\"2025-11-23T12:13:20.002Z\",\"partitionKey\":\"order-1\"}','pending',NULL,0x0E7323F1936D743E71760CB68C9BB636,14,NULL,'2026-11-29 13:52:54.133696',NULL,NULL,0,0,NULL,NULL,NULL);
INSERT INTO `outbox` (`seq`, `id`, `type`, `payload`, `meta`, `status`, `not_before`, `partition_hash`, `lane`, `idempotency_hash`, `created_at`, `delivered_at`, `dead_at`, `attempts`, `failures`, `first_failed_at`, `last_failed_at`, `last_error`) VALUES (3,0x01900000000070008000000000000003,'done','null','{\"id\":\"01900000-0000-7000-8000-000000000003\",\"timestamp\":\"2025-11-23T12:13:20.003Z\",\"idempotencyKey\":\"k-3\"}','delivered',NULL,0xC48281BF712EE70D034A846B64EEABE1,4,0xDCD555DF84435CFDB700952239B125974B2625A8E2D735286CF0426D28054554,'2026-11-29 13:52:54.134220','2026-11-29 13:52:54.136053',NULL,0,0,NULL,NULL,NULL);
INSERT INTO `outbox` (`seq`, `id`, `type`, `payload`, `meta`, `status`, `not_before`, `partition_hash`, `lane`, `idempotency_hash`, `created_at`, `delivered_at`, `dead_at`, `attempts`, `failures`, `first_failed_at`, `last_failed_at`, `last_error`) VALUES (4,0x01900000000070008000000000000004,'later','[]','{\"id\":\"01900000-0000-7000-8000-000000000004\",\"timestamp\":\"2025-11-23T12:13:20.004Z\"}','scheduled','2100-01-01 00:00:00.000',0xE18CD34BB07E4AAA4175AB8BD0C5077C,33,NULL,'2026-11-29 13:52:54.134708',NULL,NULL,0,0,NULL,NULL,NULL);
INSERT INTO `outbox` (`seq`, `id`, `type`, `payload`, `meta`, `status`, `not_before`, `partition_hash`, `lane`, `idempotency_hash`, `created_at`, `delivered_at`, `dead_at`, `attempts`, `failures`, `first_failed_at`, `last_failed_at`, `last_error`) VALUES (5,0x01900000000070008000000000000005,'broken','{}','[]','dead_letter',NULL,0xB3E1D216A54C5F96DE4BCE469C29F1C7,51,NULL,'2026-11-29 13:52:54.135178',NULL,'2026-11-29 13:52:54.137970',0,0,NULL,NULL,'the stored meta cannot be read (event 01900000-0000-7000-8000-000000000005): invalid type: sequence, expected the meta of an event at line 1 column 0');
INSERT INTO `outbox` (`seq`, `id`, `type`, `payload`, `meta`, `status`, `not_before`, `partition_hash`, `lane`, `idempotency_hash`, `created_at`, `delivered_at`, `dead_at`, `attempts`, `failures`, `first_failed_at`, `last_failed_at`, `last_error`) VALUES (6,0x01900000000070008000000000000006,'last','\"x\"','{\"id\":\"01900000-0000-7000-8000-000000000006\",\"timestamp\":\"2025-11-23T12:13:20.006Z\"}','pending',NULL,0x499EF01BB2341C58D5020DD18047B847,9,NULL,'2026-11-29 13:52:54.135639',NULL,NULL,0,0,NULL,NULL,NULL);
CREATE TABLE `outbox_version` (
  `version` int(11) NOT NULL,
  `applied_at` datetime(6) NOT NULL,
  PRIMARY KEY (`version`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci;

INSERT INTO `outbox_version` (`version`, `applied_at`) VALUES (1,'2026-11-29 13:52:54.131251');
