-- +goose Up

-- One row: the generation of the webhooks, moved by every change to them. token is a random one after each: a ledger that
-- was set back to an older copy comes to numbers that it had before.
create table registry (
	one        boolean primary key default true check (one),
	generation bigint not null,
	token      text not null
);
insert into registry (generation, token) values (1, gen_random_uuid());

create table webhooks (
	id           text primary key,
	chatbots     text not null, -- JSON, as are types, retry_at, ack
	url          bytea not null, -- with sign_key and headers: what is sealed
	sign_key     bytea not null,
	sign_key_of  text not null, -- the webhook whose keys sign instead; its own are empty then
	old_key      bytea not null, -- signs too, until old_key_until
	old_key_until timestamptz,
	headers      bytea not null,
	types        text not null,
	events       text not null,
	dialect      text not null,
	schedule     text not null,
	timezone     text not null,
	immediate    boolean not null,
	retry_at     text not null,
	rate         text not null,
	ack          text not null,
	from_start   text not null,
	description  text not null,
	key_made     boolean not null,
	origin       text not null,
	state        text not null,
	state_reason text not null,
	state_at     timestamptz not null, -- when state or its reason last changed
	stopped_at   timestamptz,          -- since when it is not active; kept from held to disabled
	entered_at   timestamptz not null
);
create index webhooks_stopped on webhooks (stopped_at) where stopped_at is not null;

create table subscriptions (
	webhook   text not null references webhooks,
	type      text not null,
	start_at  text not null,
	since     timestamptz, -- and before_at: only rows created between the two; null: no such bound
	before_at timestamptz,
	backfill  text not null,
	until_at  text not null,
	steady    text not null, -- a bookmark: until there the webhook wanted other records, or the stream was reset
	filled    text not null, -- JSON: the backfills that have ended since, as since/before
	primary key (webhook, type)
);

create table streams (
	type       text primary key,
	definition text not null,
	bookmark   text not null,
	version    bigint not null default 1,
	fresh      boolean not null default true,
	error      text not null default ''
);

-- One row a process: its heartbeat touches this row and no delivery.
create table leases (
	token      text primary key,
	owner      text not null,
	taken_at   timestamptz not null,
	expires_at timestamptz not null
);

-- Keys, times and outcomes. There is no column for a record's content, and there must not be one.
-- States are pending, sending, delivered, dead. Rows are never removed: the key is what prevents sending twice.
create table deliveries (
	id              uuid primary key,
	seen_at         timestamptz not null,
	not_before      timestamptz,
	next_at         timestamptz, -- of a pending one: null while it waits for the version before it
	first_failed_at timestamptz,
	round_failed_at timestamptz,
	settled_at      timestamptz,
	began_at        timestamptz,             -- with took_us, status, word: the attempt that was acknowledged at once
	took_us         bigint,
	attempts        integer not null default 0,
	rounds          integer not null default 0,
	claims          integer not null default 0, -- with the lease, the fence of an outcome
	status          smallint,
	in_round        boolean not null default false,
	test_answer     boolean not null default false,
	spent_in_run    boolean not null default false, -- counted in its run's failed
	carried         boolean not null default false, -- counted in its run's carried, not in gathered
	released        boolean not null default false, -- was made due by another's acknowledgement once
	state           text not null,
	webhook         text not null,
	type            text not null,
	row_key         text not null,
	version         text not null,
	action          text not null,
	chatbot         text not null,
	reason          text not null default '',
	last_error      text not null default '',
	run             text not null default '',
	lease           text not null default '',
	word            text not null default '',
	check ((state = 'sending') = (lease <> ''))
) with (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- What is due, what of it was tried (for probes), what is leased: they hold open work only. And one index to find a
-- row's deliveries.
create index deliveries_due on deliveries (webhook, next_at) where state = 'pending';
create index deliveries_tried on deliveries (webhook, next_at) where state = 'pending' and attempts > 0;
create index deliveries_leased on deliveries (lease) where state = 'sending';
create index deliveries_row on deliveries (row_key, type);

-- Of streams with versions, one row for each of the source's and each webhook that it was owed to: who enters or
-- settles a version of it holds this. One version is open, and one more may wait for it while it is sent. Rows are never
-- removed, as deliveries are not: what was acknowledged says what the next change goes as, however late it comes.
create table row_versions (
	webhook   text not null,
	type      text not null,
	row_key   text not null,
	open_id   text not null default '',
	behind_id text not null default '',
	behind_wanted smallint not null default 0, -- the actions that its webhook wants to hear of, as bits; 0: all
	acked     text not null default '', -- the action that was acknowledged last
	tried     boolean not null default false, -- something was sent since
	primary key (webhook, type, row_key)
);

-- A webhook's row: who changes its pending deliveries holds it. due_at is never later than the earliest next_at of
-- them, and null while there are none or the webhook is not active.
create table due (
	webhook   text primary key references webhooks,
	active    boolean not null,
	due_at    timestamptz,
	probe_at  timestamptz, -- of a held webhook: when one of its records may be sent; due_at is not before it
	spacing_us bigint not null default 0, -- between two requests; 0: the webhook has no rate
	rate_at   timestamptz, -- of one with a rate: when its next request may be claimed; due_at is not before it
	served_at timestamptz -- the last claim that took something: who waited longest goes first
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1);
create index due_at on due (due_at) where due_at is not null;

create table tallies (
	webhook      text primary key references webhooks,
	delivered    bigint not null default 0, -- without test_answers
	test_answers bigint not null default 0,
	dead         bigint not null default 0,
	failures     bigint not null default 0, -- failed attempts since the last acknowledgement
	spent        bigint not null default 0, -- rounds begun and spent since the last acknowledgement
	down         bigint not null default 0, -- failed attempts in a row that say so
	unmatched    bigint not null default 0, -- 2xx answers in a row that acknowledged nothing
	last_ack_at  timestamptz,
	last_error   text not null default '',
	last_run_at  timestamptz
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.1);

-- Failed attempts, and acknowledged ones that followed failures.
create table attempts (
	delivery uuid not null,
	number   integer not null,
	began_at timestamptz not null,
	took_us  bigint not null,
	status   smallint not null,
	error    text not null,
	word     text not null,
	primary key (delivery, number)
);
create index attempts_began on attempts (began_at);

create table runs (
	id           text primary key,
	kind         text not null,
	schedule     text not null,
	fire_at      timestamptz, -- null: a manual run, and nulls are never equal
	started_at   timestamptz not null,
	ended_at     timestamptz,
	gathering    boolean not null,
	gathered     bigint not null default 0,
	carried      bigint not null default 0,
	delivered    bigint not null default 0,
	test_answers bigint not null default 0,
	failed       bigint not null default 0,
	dead         bigint not null default 0,
	lease        text not null,
	webhooks     text not null, -- JSON, as are types, chatbots; null: all
	types        text not null,
	chatbots     text not null,
	unique (schedule, fire_at)
) with (fillfactor = 50);
create index runs_open on runs (lease) where ended_at is null;

create table schedules (
	schedule     text primary key,
	last_fire_at timestamptz not null
);

-- The API's tokens. hash is the SHA-256 of a token's text, which stands nowhere.
create table tokens (
	id          text primary key,
	hash        bytea not null unique,
	chatbot     text not null,
	may_write   boolean not null,
	description text not null,
	created_at  timestamptz not null
);
