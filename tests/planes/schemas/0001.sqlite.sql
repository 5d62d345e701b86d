BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE budget_windows (
	budget_id VARCHAR NOT NULL, 
	window_start_s BIGINT NOT NULL, 
	posted BIGINT NOT NULL, 
	CONSTRAINT pk_budget_windows PRIMARY KEY (budget_id, window_start_s)
)
 WITHOUT ROWID

;
INSERT INTO "budget_windows" VALUES('bud_alice',1790000000,9075);
INSERT INTO "budget_windows" VALUES('bud_org',0,1099512628483);
CREATE TABLE budgets (
	budget_id VARCHAR NOT NULL, 
	scope VARCHAR NOT NULL, 
	scope_id VARCHAR NOT NULL, 
	cap BIGINT NOT NULL, 
	unit VARCHAR NOT NULL, 
	window VARCHAR NOT NULL, 
	timezone VARCHAR NOT NULL, 
	edge VARCHAR NOT NULL, 
	created_at_ns BIGINT NOT NULL, 
	CONSTRAINT pk_budgets PRIMARY KEY (budget_id)
);
INSERT INTO "budgets" VALUES('bud_alice','user','alice',1000000,'tokens','month','Europe/Berlin','refuse',1790000000000000000);
INSERT INTO "budgets" VALUES('bud_org','organisation','default',5000000000,'usd','total','UTC','clamp',1790000000000000000);
CREATE TABLE key_secrets (
	digest BLOB NOT NULL, 
	key_id VARCHAR NOT NULL, 
	hint VARCHAR NOT NULL, 
	created_at_ns BIGINT NOT NULL, 
	expires_at_ns BIGINT, 
	CONSTRAINT pk_key_secrets PRIMARY KEY (digest), 
	CONSTRAINT fk_key_secrets_key_id FOREIGN KEY(key_id) REFERENCES virtual_keys (key_id)
);
INSERT INTO "key_secrets" VALUES(X'00666972737420646967657374FF','key_alice','abcd',1790000000000000000,1790000000000000009);
INSERT INTO "key_secrets" VALUES(X'017365636F6E6420646967657374','key_alice','wxyz',1790000000000000008,NULL);
INSERT INTO "key_secrets" VALUES(X'02','key_bob','',0,NULL);
CREATE TABLE ledger (
	request_id VARCHAR NOT NULL, 
	attempt BIGINT NOT NULL, 
	at_ns BIGINT NOT NULL, 
	settled_at_ns BIGINT NOT NULL, 
	org_id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	endpoint VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	requested_model VARCHAR NOT NULL, 
	upstream_model VARCHAR NOT NULL, 
	served_model VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	amount_nusd BIGINT NOT NULL, 
	hold_nusd BIGINT NOT NULL, 
	hold_tokens BIGINT NOT NULL, 
	max_output_tokens BIGINT NOT NULL, 
	tokens BIGINT NOT NULL, 
	input_tokens BIGINT NOT NULL, 
	cache_write_5m_tokens BIGINT NOT NULL, 
	cache_write_1h_tokens BIGINT NOT NULL, 
	cache_read_tokens BIGINT NOT NULL, 
	output_tokens BIGINT NOT NULL, 
	input_audio_tokens BIGINT NOT NULL, 
	output_audio_tokens BIGINT NOT NULL, 
	web_searches BIGINT NOT NULL, 
	web_fetches BIGINT NOT NULL, 
	variant VARCHAR NOT NULL, 
	price_version VARCHAR NOT NULL, 
	streamed SMALLINT NOT NULL, 
	status BIGINT NOT NULL, 
	duration_us BIGINT NOT NULL, 
	first_byte_us BIGINT NOT NULL, 
	response_bytes BIGINT NOT NULL, 
	client VARCHAR NOT NULL, 
	session VARCHAR NOT NULL, 
	code VARCHAR NOT NULL, 
	upstream_request_id VARCHAR NOT NULL, 
	budgets TEXT NOT NULL, 
	entry_id INTEGER NOT NULL, 
	CONSTRAINT pk_ledger PRIMARY KEY (entry_id), 
	CONSTRAINT uq_ledger_request_id_attempt UNIQUE (request_id, attempt)
);
INSERT INTO "ledger" VALUES('req_000000000001',1,1790000000000000001,1790000001000000001,'default','alice','key_alice','messages','anthropic','claude-sonnet-4-5','claude-sonnet-4-5-20250929','claude-sonnet-4-5-20250929','exact',1099511627776,1000000,9000,8000,45,1,2,3,4,5,6,7,8,9,'priority','v1',1,200,1500,700,99,'claude-cli','s1','','msg_1','[["bud_org",0],["bud_alice",1790000000]]',1);
INSERT INTO "ledger" VALUES('req_000000000002',1,1790000000000000002,1790000001000000002,'default','alice','key_alice','messages','anthropic','claude-sonnet-4-5','claude-sonnet-4-5-20250929','claude-sonnet-4-5-20250929','upper',1000000,1000000,9000,8000,9000,1,2,3,4,5,0,0,0,0,'','v1',1,0,1500,700,99,'claude-cli','s1','crashed','msg_1','[["bud_org",0],["bud_alice",1790000000]]',2);
INSERT INTO "ledger" VALUES('req_000000000003',1,1790000000000000003,1790000001000000003,'default','alice','key_alice','messages','anthropic','claude-sonnet-4-5','claude-sonnet-4-5-20250929','claude-sonnet-4-5-20250929','estimated',700,1000000,9000,8000,15,1,2,3,4,5,0,0,0,0,'','v1',1,200,1500,700,99,'claude-cli','s1','upstream_timeout','msg_1','[["bud_org",0],["bud_alice",1790000000]]',3);
INSERT INTO "ledger" VALUES('req_000000000003',2,1790000000000000003,1790000001000000003,'default','alice','key_alice','messages','anthropic','claude-sonnet-4-5','claude-sonnet-4-5-20250929','claude-sonnet-4-5-20250929','exact',7,1000000,9000,8000,15,1,2,3,4,5,0,0,0,0,'','v1',1,200,1500,700,99,'claude-cli','s1','','msg_1','[["bud_org",0],["bud_alice",1790000000]]',4);
CREATE TABLE requests (
	request_id VARCHAR NOT NULL, 
	attempts BIGINT NOT NULL, 
	at_ns BIGINT NOT NULL, 
	org_id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	endpoint VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	requested_model VARCHAR NOT NULL, 
	upstream_model VARCHAR NOT NULL, 
	served_model VARCHAR NOT NULL, 
	status BIGINT NOT NULL, 
	code VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	hold_nusd BIGINT NOT NULL, 
	max_output_tokens BIGINT NOT NULL, 
	price_version VARCHAR NOT NULL, 
	streamed SMALLINT NOT NULL, 
	duration_us BIGINT NOT NULL, 
	first_byte_us BIGINT NOT NULL, 
	response_bytes BIGINT NOT NULL, 
	client VARCHAR NOT NULL, 
	session VARCHAR NOT NULL, 
	upstream_request_id VARCHAR NOT NULL, 
	CONSTRAINT pk_requests PRIMARY KEY (request_id)
);
INSERT INTO "requests" VALUES('req_000000000004',1,1790000000000000004,'default','alice','key_alice','messages','anthropic','claude-sonnet-4-5','claude-sonnet-4-5-20250929','claude-sonnet-4-5-20250929',429,'upstream_429','voided',1000000,8000,'v1',1,1500,700,99,'claude-cli','s1','msg_1');
INSERT INTO "requests" VALUES('req_refused',0,1790000000000000009,'default','alice','key_alice','messages','','gpt-9','','',402,'budget_exhausted','',0,0,'',0,80,0,0,'','','');
CREATE TABLE users (
	user_id VARCHAR NOT NULL, 
	org_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	email VARCHAR NOT NULL, 
	limits TEXT NOT NULL, 
	metadata TEXT NOT NULL, 
	created_at_ns BIGINT NOT NULL, 
	blocked_at_ns BIGINT, 
	CONSTRAINT pk_users PRIMARY KEY (user_id)
);
INSERT INTO "users" VALUES('alice','default','Alice Müller','alice@example.org','{"requests_per_minute":10,"requests_per_day":100}','{"plan":"free","tags":["a","ä"]}',1790000000000000000,NULL);
INSERT INTO "users" VALUES('bob@example.org','default','','','{}','{}',1790000000000000001,1790000000000000005);
CREATE TABLE virtual_keys (
	key_id VARCHAR NOT NULL, 
	user_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	hint VARCHAR NOT NULL, 
	models TEXT, 
	limits TEXT NOT NULL, 
	metadata TEXT NOT NULL, 
	created_at_ns BIGINT NOT NULL, 
	expires_at_ns BIGINT, 
	revoked_at_ns BIGINT, 
	CONSTRAINT pk_virtual_keys PRIMARY KEY (key_id), 
	CONSTRAINT fk_virtual_keys_user_id FOREIGN KEY(user_id) REFERENCES users (user_id)
);
INSERT INTO "virtual_keys" VALUES('key_alice','alice','laptop','wxyz','["claude-*","gpt-?"]','{"tokens_per_minute":1000,"parallel_requests":2}','{"n":1}',1790000000000000002,2790000000000000000,NULL);
INSERT INTO "virtual_keys" VALUES('key_bob','bob@example.org','','',NULL,'{}','{}',1790000000000000003,NULL,1790000000000000004);
CREATE INDEX ix_budgets_scope_scope_id ON budgets (scope, scope_id);
CREATE INDEX ix_ledger_user_id_at_ns_key_id ON ledger (user_id, at_ns, key_id);
CREATE INDEX ix_ledger_request_id_attempt ON ledger (request_id, attempt) WHERE attempt > 1;
CREATE INDEX ix_ledger_at_ns ON ledger (at_ns);
CREATE INDEX ix_requests_at_ns ON requests (at_ns);
CREATE INDEX ix_requests_user_id_at_ns_key_id ON requests (user_id, at_ns, key_id);
CREATE INDEX ix_virtual_keys_user_id ON virtual_keys (user_id);
CREATE INDEX ix_key_secrets_key_id ON key_secrets (key_id);
COMMIT;
