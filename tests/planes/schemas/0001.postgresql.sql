


SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

SET default_table_access_method = heap;


CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);



CREATE TABLE public.budget_windows (
    budget_id character varying NOT NULL COLLATE pg_catalog."C",
    window_start_s bigint NOT NULL,
    posted bigint NOT NULL
);



CREATE TABLE public.budgets (
    budget_id character varying NOT NULL COLLATE pg_catalog."C",
    scope character varying NOT NULL COLLATE pg_catalog."C",
    scope_id character varying NOT NULL COLLATE pg_catalog."C",
    cap bigint NOT NULL,
    unit character varying NOT NULL COLLATE pg_catalog."C",
    "window" character varying NOT NULL COLLATE pg_catalog."C",
    timezone character varying NOT NULL COLLATE pg_catalog."C",
    edge character varying NOT NULL COLLATE pg_catalog."C",
    created_at_ns bigint NOT NULL
);



CREATE TABLE public.key_secrets (
    digest bytea NOT NULL,
    key_id character varying NOT NULL COLLATE pg_catalog."C",
    hint character varying NOT NULL COLLATE pg_catalog."C",
    created_at_ns bigint NOT NULL,
    expires_at_ns bigint
);



CREATE TABLE public.ledger (
    request_id character varying NOT NULL COLLATE pg_catalog."C",
    attempt bigint NOT NULL,
    at_ns bigint NOT NULL,
    settled_at_ns bigint NOT NULL,
    org_id character varying NOT NULL COLLATE pg_catalog."C",
    user_id character varying NOT NULL COLLATE pg_catalog."C",
    key_id character varying NOT NULL COLLATE pg_catalog."C",
    endpoint character varying NOT NULL COLLATE pg_catalog."C",
    provider character varying NOT NULL COLLATE pg_catalog."C",
    requested_model character varying NOT NULL COLLATE pg_catalog."C",
    upstream_model character varying NOT NULL COLLATE pg_catalog."C",
    served_model character varying NOT NULL COLLATE pg_catalog."C",
    kind character varying NOT NULL COLLATE pg_catalog."C",
    amount_nusd bigint NOT NULL,
    hold_nusd bigint NOT NULL,
    hold_tokens bigint NOT NULL,
    max_output_tokens bigint NOT NULL,
    tokens bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    cache_read_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    input_audio_tokens bigint NOT NULL,
    output_audio_tokens bigint NOT NULL,
    web_searches bigint NOT NULL,
    web_fetches bigint NOT NULL,
    variant character varying NOT NULL COLLATE pg_catalog."C",
    price_version character varying NOT NULL COLLATE pg_catalog."C",
    streamed smallint NOT NULL,
    status bigint NOT NULL,
    duration_us bigint NOT NULL,
    first_byte_us bigint NOT NULL,
    response_bytes bigint NOT NULL,
    client character varying NOT NULL COLLATE pg_catalog."C",
    session character varying NOT NULL COLLATE pg_catalog."C",
    code character varying NOT NULL COLLATE pg_catalog."C",
    upstream_request_id character varying NOT NULL COLLATE pg_catalog."C",
    budgets text NOT NULL,
    entry_id bigint NOT NULL
);



CREATE SEQUENCE public.ledger_entry_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;



ALTER SEQUENCE public.ledger_entry_id_seq OWNED BY public.ledger.entry_id;



CREATE TABLE public.requests (
    request_id character varying NOT NULL COLLATE pg_catalog."C",
    attempts bigint NOT NULL,
    at_ns bigint NOT NULL,
    org_id character varying NOT NULL COLLATE pg_catalog."C",
    user_id character varying NOT NULL COLLATE pg_catalog."C",
    key_id character varying NOT NULL COLLATE pg_catalog."C",
    endpoint character varying NOT NULL COLLATE pg_catalog."C",
    provider character varying NOT NULL COLLATE pg_catalog."C",
    requested_model character varying NOT NULL COLLATE pg_catalog."C",
    upstream_model character varying NOT NULL COLLATE pg_catalog."C",
    served_model character varying NOT NULL COLLATE pg_catalog."C",
    status bigint NOT NULL,
    code character varying NOT NULL COLLATE pg_catalog."C",
    kind character varying NOT NULL COLLATE pg_catalog."C",
    hold_nusd bigint NOT NULL,
    max_output_tokens bigint NOT NULL,
    price_version character varying NOT NULL COLLATE pg_catalog."C",
    streamed smallint NOT NULL,
    duration_us bigint NOT NULL,
    first_byte_us bigint NOT NULL,
    response_bytes bigint NOT NULL,
    client character varying NOT NULL COLLATE pg_catalog."C",
    session character varying NOT NULL COLLATE pg_catalog."C",
    upstream_request_id character varying NOT NULL COLLATE pg_catalog."C"
);



CREATE TABLE public.users (
    user_id character varying NOT NULL COLLATE pg_catalog."C",
    org_id character varying NOT NULL COLLATE pg_catalog."C",
    name character varying NOT NULL COLLATE pg_catalog."C",
    email character varying NOT NULL COLLATE pg_catalog."C",
    limits text NOT NULL,
    metadata text NOT NULL,
    created_at_ns bigint NOT NULL,
    blocked_at_ns bigint
);



CREATE TABLE public.virtual_keys (
    key_id character varying NOT NULL COLLATE pg_catalog."C",
    user_id character varying NOT NULL COLLATE pg_catalog."C",
    name character varying NOT NULL COLLATE pg_catalog."C",
    hint character varying NOT NULL COLLATE pg_catalog."C",
    models text,
    limits text NOT NULL,
    metadata text NOT NULL,
    created_at_ns bigint NOT NULL,
    expires_at_ns bigint,
    revoked_at_ns bigint
);



ALTER TABLE ONLY public.ledger ALTER COLUMN entry_id SET DEFAULT nextval('public.ledger_entry_id_seq'::regclass);



INSERT INTO public.alembic_version VALUES ('0001');



INSERT INTO public.budget_windows VALUES ('bud_alice', 1790000000, 9075);
INSERT INTO public.budget_windows VALUES ('bud_org', 0, 1099512628483);



INSERT INTO public.budgets VALUES ('bud_alice', 'user', 'alice', 1000000, 'tokens', 'month', 'Europe/Berlin', 'refuse', 1790000000000000000);
INSERT INTO public.budgets VALUES ('bud_org', 'organisation', 'default', 5000000000, 'usd', 'total', 'UTC', 'clamp', 1790000000000000000);



INSERT INTO public.key_secrets VALUES ('\x00666972737420646967657374ff', 'key_alice', 'abcd', 1790000000000000000, 1790000000000000009);
INSERT INTO public.key_secrets VALUES ('\x017365636f6e6420646967657374', 'key_alice', 'wxyz', 1790000000000000008, NULL);
INSERT INTO public.key_secrets VALUES ('\x02', 'key_bob', '', 0, NULL);



INSERT INTO public.ledger VALUES ('req_000000000001', 1, 1790000000000000001, 1790000001000000001, 'default', 'alice', 'key_alice', 'messages', 'anthropic', 'claude-sonnet-4-5', 'claude-sonnet-4-5-20250929', 'claude-sonnet-4-5-20250929', 'exact', 1099511627776, 1000000, 9000, 8000, 45, 1, 2, 3, 4, 5, 6, 7, 8, 9, 'priority', 'v1', 1, 200, 1500, 700, 99, 'claude-cli', 's1', '', 'msg_1', '[["bud_org",0],["bud_alice",1790000000]]', 1);
INSERT INTO public.ledger VALUES ('req_000000000002', 1, 1790000000000000002, 1790000001000000002, 'default', 'alice', 'key_alice', 'messages', 'anthropic', 'claude-sonnet-4-5', 'claude-sonnet-4-5-20250929', 'claude-sonnet-4-5-20250929', 'upper', 1000000, 1000000, 9000, 8000, 9000, 1, 2, 3, 4, 5, 0, 0, 0, 0, '', 'v1', 1, 0, 1500, 700, 99, 'claude-cli', 's1', 'crashed', 'msg_1', '[["bud_org",0],["bud_alice",1790000000]]', 2);
INSERT INTO public.ledger VALUES ('req_000000000003', 1, 1790000000000000003, 1790000001000000003, 'default', 'alice', 'key_alice', 'messages', 'anthropic', 'claude-sonnet-4-5', 'claude-sonnet-4-5-20250929', 'claude-sonnet-4-5-20250929', 'estimated', 700, 1000000, 9000, 8000, 15, 1, 2, 3, 4, 5, 0, 0, 0, 0, '', 'v1', 1, 200, 1500, 700, 99, 'claude-cli', 's1', 'upstream_timeout', 'msg_1', '[["bud_org",0],["bud_alice",1790000000]]', 3);
INSERT INTO public.ledger VALUES ('req_000000000003', 2, 1790000000000000003, 1790000001000000003, 'default', 'alice', 'key_alice', 'messages', 'anthropic', 'claude-sonnet-4-5', 'claude-sonnet-4-5-20250929', 'claude-sonnet-4-5-20250929', 'exact', 7, 1000000, 9000, 8000, 15, 1, 2, 3, 4, 5, 0, 0, 0, 0, '', 'v1', 1, 200, 1500, 700, 99, 'claude-cli', 's1', '', 'msg_1', '[["bud_org",0],["bud_alice",1790000000]]', 4);



INSERT INTO public.requests VALUES ('req_000000000004', 1, 1790000000000000004, 'default', 'alice', 'key_alice', 'messages', 'anthropic', 'claude-sonnet-4-5', 'claude-sonnet-4-5-20250929', 'claude-sonnet-4-5-20250929', 429, 'upstream_429', 'voided', 1000000, 8000, 'v1', 1, 1500, 700, 99, 'claude-cli', 's1', 'msg_1');
INSERT INTO public.requests VALUES ('req_refused', 0, 1790000000000000009, 'default', 'alice', 'key_alice', 'messages', '', 'gpt-9', '', '', 402, 'budget_exhausted', '', 0, 0, '', 0, 80, 0, 0, '', '', '');



INSERT INTO public.users VALUES ('alice', 'default', 'Alice Müller', 'alice@example.org', '{"requests_per_minute":10,"requests_per_day":100}', '{"plan":"free","tags":["a","ä"]}', 1790000000000000000, NULL);
INSERT INTO public.users VALUES ('bob@example.org', 'default', '', '', '{}', '{}', 1790000000000000001, 1790000000000000005);



INSERT INTO public.virtual_keys VALUES ('key_alice', 'alice', 'laptop', 'wxyz', '["claude-*","gpt-?"]', '{"tokens_per_minute":1000,"parallel_requests":2}', '{"n":1}', 1790000000000000002, 2790000000000000000, NULL);
INSERT INTO public.virtual_keys VALUES ('key_bob', 'bob@example.org', '', '', NULL, '{}', '{}', 1790000000000000003, NULL, 1790000000000000004);



SELECT pg_catalog.setval('public.ledger_entry_id_seq', 4, true);



ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);



ALTER TABLE ONLY public.budget_windows
    ADD CONSTRAINT pk_budget_windows PRIMARY KEY (budget_id, window_start_s);



ALTER TABLE ONLY public.budgets
    ADD CONSTRAINT pk_budgets PRIMARY KEY (budget_id);



ALTER TABLE ONLY public.key_secrets
    ADD CONSTRAINT pk_key_secrets PRIMARY KEY (digest);



ALTER TABLE ONLY public.ledger
    ADD CONSTRAINT pk_ledger PRIMARY KEY (entry_id);



ALTER TABLE ONLY public.requests
    ADD CONSTRAINT pk_requests PRIMARY KEY (request_id);



ALTER TABLE ONLY public.users
    ADD CONSTRAINT pk_users PRIMARY KEY (user_id);



ALTER TABLE ONLY public.virtual_keys
    ADD CONSTRAINT pk_virtual_keys PRIMARY KEY (key_id);



ALTER TABLE ONLY public.ledger
    ADD CONSTRAINT uq_ledger_request_id_attempt UNIQUE (request_id, attempt);



CREATE INDEX ix_budgets_scope_scope_id ON public.budgets USING btree (scope, scope_id);



CREATE INDEX ix_key_secrets_key_id ON public.key_secrets USING btree (key_id);



CREATE INDEX ix_ledger_at_ns ON public.ledger USING btree (at_ns);



CREATE INDEX ix_ledger_request_id_attempt ON public.ledger USING btree (request_id, attempt) WHERE (attempt > 1);



CREATE INDEX ix_ledger_user_id_at_ns_key_id ON public.ledger USING btree (user_id, at_ns, key_id);



CREATE INDEX ix_requests_at_ns ON public.requests USING btree (at_ns);



CREATE INDEX ix_requests_user_id_at_ns_key_id ON public.requests USING btree (user_id, at_ns, key_id);



CREATE INDEX ix_virtual_keys_user_id ON public.virtual_keys USING btree (user_id);



ALTER TABLE ONLY public.key_secrets
    ADD CONSTRAINT fk_key_secrets_key_id FOREIGN KEY (key_id) REFERENCES public.virtual_keys(key_id);



ALTER TABLE ONLY public.virtual_keys
    ADD CONSTRAINT fk_virtual_keys_user_id FOREIGN KEY (user_id) REFERENCES public.users(user_id);




