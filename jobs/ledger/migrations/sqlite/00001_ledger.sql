-- +goose Up

-- The same tables as on PostgreSQL. Times are microseconds since 1970, UTC; booleans are 0 and 1.

-- One row: the generation of the webhooks, moved by every change to them. token is a random one after each: a ledger that
-- was set back to an older copy comes to numbers that it had before.
create table registry (
	one        integer primary key default 1 check (one = 1),
	generation integer not null,
	token      text not null
) strict;
insert into registry (generation, token) values (1, lower(hex(randomblob(16))));

create table webhooks (
	id           text primary key,
	chatbots     text not null, -- JSON, as are types, retry_at, ack
	url          blob not null, -- with sign_key and headers: what is sealed
	sign_key     blob not null,
	sign_key_of  text not null, -- the webhook whose keys sign instead; its own are empty then
	old_key      blob not null, -- signs too, until old_key_until
	old_key_until integer,
	headers      blob not null,
	types        text not null,
	events       text not null,
	dialect      text not null,
	schedule     text not null,
	timezone     text not null,
	immediate    integer not null,
	retry_at     text not null,
	rate         text not null,
	ack          text not null,
	from_start   text not null,
	description  text not null,
	key_made     integer not null,
	origin       text not null,
	state        text not null,
	state_reason text not null,
	state_at     integer not null, -- when state or its reason last changed
	stopped_at   integer,          -- since when it is not active; kept from held to disabled
	entered_at   integer not null
) strict;
create index webhooks_stopped on webhooks (stopped_at) where stopped_at is not null;

create table subscriptions (
	webhook   text not null references webhooks,
	type      text not null,
	start_at  text not null,
	since     integer, -- and before_at: only rows created between the two; null: no such bound
	before_at integer,
	backfill  text not null,
	until_at  text not null,
	steady    text not null, -- a bookmark: until there the webhook wanted other records, or the stream was reset
	filled    text not null, -- JSON: the backfills that have ended since, as since/before
	primary key (webhook, type)
) strict;

create table streams (
	type       text primary key,
	definition text not null,
	bookmark   text not null,
	version    integer not null default 1,
	fresh      integer not null default 1,
	error      text not null default ''
) strict;

-- One row a process: its heartbeat touches this row and no delivery.
create table leases (
	token      text primary key,
	owner      text not null,
	taken_at   integer not null,
	expires_at integer not null
) strict;

-- Keys, times and outcomes. There is no column for a record's content, and there must not be one.
-- States are pending, sending, delivered, dead. Rows are never removed: the key is what prevents sending twice.
create table deliveries (
	id              text primary key,
	seen_at         integer not null,
	not_before      integer,
	next_at         integer, -- of a pending one: null while it waits for the version before it
	first_failed_at integer,
	round_failed_at integer,
	settled_at      integer,
	began_at        integer,             -- with took_us, status, word: the attempt that was acknowledged at once
	took_us         integer,
	attempts        integer not null default 0,
	rounds          integer not null default 0,
	claims          integer not null default 0, -- with the lease, the fence of an outcome
	status          integer,
	in_round        integer not null default 0,
	test_answer     integer not null default 0,
	spent_in_run    integer not null default 0, -- counted in its run's failed
	carried         integer not null default 0, -- counted in its run's carried, not in gathered
	released        integer not null default 0, -- was made due by another's acknowledgement once
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
) strict;

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
	behind_wanted integer not null default 0, -- the actions that its webhook wants to hear of, as bits; 0: all
	acked     text not null default '', -- the action that was acknowledged last
	tried     integer not null default 0, -- something was sent since
	primary key (webhook, type, row_key)
) strict;

-- A webhook's row: who changes its pending deliveries holds it. due_at is never later than the earliest next_at of
-- them, and null while there are none or the webhook is not active.
create table due (
	webhook   text primary key references webhooks,
	active    integer not null,
	due_at    integer,
	probe_at  integer, -- of a held webhook: when one of its records may be sent; due_at is not before it
	spacing_us integer not null default 0, -- between two requests; 0: the webhook has no rate
	rate_at   integer, -- of one with a rate: when its next request may be claimed; due_at is not before it
	served_at integer -- the last claim that took something: who waited longest goes first
) strict;
create index due_at on due (due_at) where due_at is not null;

create table tallies (
	webhook      text primary key references webhooks,
	delivered    integer not null default 0, -- without test_answers
	test_answers integer not null default 0,
	dead         integer not null default 0,
	failures     integer not null default 0, -- failed attempts since the last acknowledgement
	spent        integer not null default 0, -- rounds begun and spent since the last acknowledgement
	down         integer not null default 0, -- failed attempts in a row that say so
	unmatched    integer not null default 0, -- 2xx answers in a row that acknowledged nothing
	last_ack_at  integer,
	last_error   text not null default '',
	last_run_at  integer
) strict;

-- Failed attempts, and acknowledged ones that followed failures.
create table attempts (
	delivery text not null,
	number   integer not null,
	began_at integer not null,
	took_us  integer not null,
	status   integer not null,
	error    text not null,
	word     text not null,
	primary key (delivery, number)
) strict;
create index attempts_began on attempts (began_at);

create table runs (
	id           text primary key,
	kind         text not null,
	schedule     text not null,
	fire_at      integer, -- null: a manual run, and nulls are never equal
	started_at   integer not null,
	ended_at     integer,
	gathering    integer not null,
	gathered     integer not null default 0,
	carried      integer not null default 0,
	delivered    integer not null default 0,
	test_answers integer not null default 0,
	failed       integer not null default 0,
	dead         integer not null default 0,
	lease        text not null,
	webhooks     text not null, -- JSON, as are types, chatbots; null: all
	types        text not null,
	chatbots     text not null,
	unique (schedule, fire_at)
) strict;
create index runs_open on runs (lease) where ended_at is null;

create table schedules (
	schedule     text primary key,
	last_fire_at integer not null
) strict;

-- The API's tokens. hash is the SHA-256 of a token's text, which stands nowhere.
create table tokens (
	id          text primary key,
	hash        blob not null unique,
	chatbot     text not null,
	may_write   integer not null,
	description text not null,
	created_at  integer not null
) strict;
