-- An outbox of the first version of the schema, with events in each state, as pg_dump dumped it.
-- Made by the library as it was then: not to be changed.

CREATE TABLE public.outbox (
    seq bigint NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL,
    payload json NOT NULL,
    meta json NOT NULL,
    status text NOT NULL,
    not_before timestamp with time zone,
    partition_hash bytea NOT NULL,
    lane smallint NOT NULL,
    idempotency_hash bytea,
    created_at timestamp with time zone NOT NULL,
    delivered_at timestamp with time zone,
    dead_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    first_failed_at timestamp with time zone,
    last_failed_at timestamp with time zone,
    last_error text
);

ALTER TABLE public.outbox ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.outbox_version (
    version integer NOT NULL,
    applied_at timestamp with time zone NOT NULL
);

INSERT INTO public.outbox (seq, id, type, payload, meta, status, not_before, partition_hash, lane, idempotency_hash, created_at, delivered_at, dead_at, attempts, failures, first_failed_at, last_failed_at, last_error) OVERRIDING SYSTEM VALUE VALUES (1, '01900000-0000-7000-8000-000000000001', 'order.placed', '{"n":18446744073709551615,"text":"it''s \"é\" \\ 😀\n","x":1.5}', '{"id":"01900000-0000-7000-8000-000000000001","timestamp":"2025-11-23T12:13:20.001Z","resource":"order","resourceId":"1","userId":"u-1","partitionKey":"order-1","idempotencyKey":"k-1","headers":{"tenant":"acme"}}', 'pending', NULL, '\x0e7323f1936d743e71760cb68c9bb636', 14, '\x7c35c5a1785d20704e44d5de4beb81c1fce91b6fe48ed7c3159af6f7f832078b', '2026-11-29 13:52:54.114111+00', NULL, NULL, 0, 0, NULL, NULL, NULL);
INSERT INTO public.outbox (seq, id, type, payload, meta, status, not_before, partition_hash, lane, idempotency_hash, created_at, delivered_at, dead_at, attempts, failures, first_failed_at, last_failed_at, last_error) OVERRIDING SYSTEM VALUE VALUES (2, '01900000-0000-7000-8000-000000000002', 'order.paid', '{"n":2}', '{"id":"01900000-0000-7000-8000-000000000002","timestamp":"2025-11-23T12:13:20.002Z","partitionKey":"order-1"}', 'pending', NULL, '\x0e7323f1936d743e71760cb68c9bb636', 14, NULL, '2026-11-29 13:52:54.115453+00', NULL, NULL, 0, 0, NULL, NULL, NULL);
INSERT INTO public.outbox (seq, id, type, payload, meta, status, not_before, partition_hash, lane, idempotency_hash, created_at, delivered_at, dead_at, attempts, failures, first_failed_at, last_failed_at, last_error) OVERRIDING SYSTEM VALUE VALUES (4, '01900000-0000-7000-8000-000000000004', 'later', '[]', '{"id":"01900000-0000-7000-8000-000000000004","timestamp":"2025-11-23T12:13:20.004Z"}', 'scheduled', '2100-01-01 00:00:00+00', '\xe18cd34bb07e4aaa4175ab8bd0c5077c', 33, NULL, '2026-11-29 13:52:54.116636+00', NULL, NULL, 0, 0, NULL, NULL, NULL);
INSERT INTO public.outbox (seq, id, type, payload, meta, status, not_before, partition_hash, lane, idempotency_hash, created_at, delivered_at, dead_at, attempts, failures, first_failed_at, last_failed_at, last_error) OVERRIDING SYSTEM VALUE VALUES (6, '01900000-0000-7000-8000-000000000006', 'last', '"x"', '{"id":"01900000-0000-7000-8000-000000000006","timestamp":"2025-11-23T12:13:20.006Z"}', 'pending', NULL, '\x499ef01bb2341c58d5020dd18047b847', 9, NULL, '2026-11-29 13:52:54.117819+00', NULL, NULL, 0, 0, NULL, NULL, NULL);
INSERT INTO public.outbox (seq, id, type, payload, meta, status, not_before, partition_hash, lane, idempotency_hash, created_at, delivered_at, dead_at, attempts, failures, first_failed_at, last_failed_at, last_error) OVERRIDING SYSTEM VALUE VALUES (3, '01900000-0000-7000-8000-000000000003', 'done', 'null', '{"id":"01900000-0000-7000-8000-000000000003","timestamp":"2025-11-23T12:13:20.003Z","idempotencyKey":"k-3"}', 'delivered', NULL, '\xc48281bf712ee70d034a846b64eeabe1', 4, '\xdcd555df84435cfdb700952239b125974b2625a8e2d735286cf0426d28054554', '2026-11-29 13:52:54.116167+00', '2026-11-29 13:52:54.118612+00', NULL, 0, 0, NULL, NULL, NULL);
INSERT INTO public.outbox (seq, id, type, payload, meta, status, not_before, partition_hash, lane, idempotency_hash, created_at, delivered_at, dead_at, attempts, failures, first_failed_at, last_failed_at, last_error) OVERRIDING SYSTEM VALUE VALUES (5, '01900000-0000-7000-8000-000000000005', 'broken', '{}', '[]', 'dead_letter', NULL, '\xb3e1d216a54c5f96de4bce469c29f1c7', 51, NULL, '2026-11-29 13:52:54.117339+00', NULL, '2026-11-29 13:52:54.121136+00', 0, 0, NULL, NULL, 'the stored meta cannot be read (event 01900000-0000-7000-8000-000000000005): invalid type: sequence, expected the meta of an event at line 1 column 0');

INSERT INTO public.outbox_version (version, applied_at) VALUES (1, '2026-11-29 13:52:54.112372+00');

SELECT pg_catalog.setval('public.outbox_seq_seq', 6, true);

ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_id PRIMARY KEY (id);

ALTER TABLE ONLY public.outbox_version
    ADD CONSTRAINT outbox_version_pkey PRIMARY KEY (version);

CREATE INDEX outbox_dead_letter ON public.outbox USING btree (seq) WHERE (status = 'dead_letter'::text);

CREATE INDEX outbox_delivered ON public.outbox USING btree (delivered_at) WHERE (status = 'delivered'::text);

CREATE INDEX outbox_fifo ON public.outbox USING btree (seq) WHERE (status = 'pending'::text);

CREATE UNIQUE INDEX outbox_idempotency ON public.outbox USING btree (idempotency_hash) WHERE (idempotency_hash IS NOT NULL);

CREATE INDEX outbox_scheduled ON public.outbox USING btree (not_before) WHERE (status = 'scheduled'::text);
