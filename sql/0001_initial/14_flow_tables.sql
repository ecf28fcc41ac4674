-- The tables of flow control: limits, ordered keys and shares. A claim obeys them under the lane's lock (see
-- 29_rules.sql). For a kind without rules, a claim only reads the handler's row.

-- The rules. Each is a limit, an adaptive limit, the order of a kind's keys, or the shares of its tenants. A claim
-- locks the rows of its kind's rules until it commits, so the claims of a rule run one after the other. Locking writes
-- no new version.
create table breakwater.flow_rule (
    id          bigint generated always as identity primary key,
    type        text not null check (type in ('order', 'limit', 'adapt', 'share')),
    -- A limit's name; for the other types, the kind.
    name        text collate "C" not null
                constraint name_is_1_to_200_bytes check (octet_length(name) between 1 and 200),
    -- Where the payload has the key: each value has its own count. null: one count for all jobs.
    key_path    text[],
    -- How many jobs may run at once in the whole fleet, and how many may start a second; null: any number.
    concurrency integer constraint concurrency_is_1_to_1000000 check (concurrency between 1 and 1000000),
    rate        double precision constraint rate_is_positive check (rate > 0 and rate <= 1000000),
    -- For an adaptive limit: the lowest concurrency; the highest is the rule's own.
    least       integer constraint least_is_1_to_1000000 check (least between 1 and 1000000),
    -- How many may start at once after a pause.
    burst       integer constraint burst_is_1_to_1000000 check (burst between 1 and 1000000),
    -- Where the payload says how many jobs a job counts for; null: each counts for one.
    weight_path text[],
    -- What happens to an ordered key when one of its jobs dies: the next job runs, or the key waits until a user
    -- redrives or purges the dead letter.
    on_dead     text check (on_dead in ('continue', 'halt')),
    -- The kinds that the rule applies to, beside the kind of its name and the kinds whose configuration names it.
    kinds       text[] collate "C" not null default '{}',
    -- Whether some keys of a limit have rows in breakwater.key_limit.
    has_key_limits boolean not null default false,
    -- What the configuration says (null: nothing), and who set the values above: the configuration, or an operator,
    -- whose values hold until they are removed.
    configured  jsonb,
    source      text not null check (source in ('configuration', 'operator')),
    actor       text,
    reason      text,
    updated_at  timestamptz not null default now(),
    unique (type, name),
    constraint an_order_and_shares_have_a_key check (type in ('limit', 'adapt') or key_path is not null),
    constraint a_limit_limits_something check (type <> 'limit' or num_nonnulls(concurrency, rate) > 0),
    constraint an_adaptive_limit_has_bounds check (type <> 'adapt' or (least <= concurrency) is true),
    constraint a_rate_has_a_burst check (num_nulls(rate, burst) in (0, 2)),
    constraint name_has_no_control_characters check (not breakwater.has_control_characters(name))
);

-- The limits of keys that differ from those of the other keys of a limit. Such a row stands in place of both of the
-- limit's own values.
create table breakwater.key_limit (
    name        text collate "C" not null,
    key         text collate "C" not null,
    concurrency integer constraint concurrency_is_1_to_1000000 check (concurrency between 1 and 1000000),
    rate        double precision constraint rate_is_positive check (rate > 0 and rate <= 1000000),
    burst       integer constraint burst_is_1_to_1000000 check (burst between 1 and 1000000),
    actor       text,
    reason      text,
    updated_at  timestamptz not null default now(),
    primary key (name, key),
    constraint a_limit_limits_something check (num_nonnulls(concurrency, rate) > 0),
    constraint a_rate_has_a_burst check (num_nulls(rate, burst) in (0, 2))
);

-- The log of each rule's claims. Only the newest row counts: it lists the claims of the rule that may still hold jobs,
-- and has the clock of the rate. A claim adds a row and deletes the one before, because a row that every claim updates
-- would grow a chain of versions while another session holds a snapshot.
create sequence breakwater.rule_claim_number;
create table breakwater.rule_claim (
    rule   bigint not null,
    number bigint not null,
    leases bigint[] not null,
    -- When the next start is due if starts were evenly spaced (GCRA's theoretical arrival time); null: none was yet.
    due_at timestamptz,
    primary key (rule, number)
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- The clocks of rates that have a key, in the same form: the newest row of each key counts.
create table breakwater.key_clock (
    rule     bigint not null,
    key      text collate "C" not null,
    number   bigint not null,
    due_at   timestamptz not null,
    primary key (rule, key, number)
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- Until when a rule (or one key of it) starts nothing, because the dependency asked for it (429 with Retry-After).
create table breakwater.rate_pause (
    id     bigint generated always as identity primary key,
    rule   bigint not null,
    key    text collate "C" not null,
    until  timestamptz not null
);
create index rate_pause_by_key on breakwater.rate_pause (rule, key, until);

-- Keys for which a job may be able to run: one of their jobs ended, or their rate allows a start from `due_at` on.
-- Claims take these rows, and look for jobs that are held back for the keys.
create table breakwater.freed_key (
    id     bigint generated always as identity primary key,
    kind   text collate "C" not null,
    rule   bigint not null,
    keys   text[] collate "C" not null,
    due_at timestamptz not null default '-infinity'
) with (autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);
create index freed_key_by_kind on breakwater.freed_key (kind, due_at, id);

-- The tenants that have jobs held back for a fair share, in the order in which claims look at them.
create table breakwater.share_turn (
    id   bigint generated always as identity,
    rule bigint not null,
    key  text collate "C" not null,
    primary key (rule, key)
);
create index share_turn_by_id on breakwater.share_turn (rule, id);

-- The weights of tenants. A tenant without a row has the weight 1.
create table breakwater.share_weight (
    kind       text collate "C" not null,
    key        text collate "C" not null,
    weight     double precision not null constraint weight_is_positive check (weight > 0 and weight <= 1000000),
    actor      text not null,
    updated_at timestamptz not null default now(),
    primary key (kind, key)
);

-- Ordered keys that wait because one of their jobs died, and its dead letter.
create table breakwater.halted_key (
    kind        text collate "C" not null,
    key         text collate "C" not null,
    dead_letter bigint not null,
    since       timestamptz not null default now(),
    primary key (kind, key, dead_letter)
);
create index halted_key_by_dead_letter on breakwater.halted_key (dead_letter);

-- Where the leader's search for keys that nothing would free goes on (see breakwater.free_forgotten_keys).
create table breakwater.key_search (
    only_one boolean primary key default true check (only_one),
    kind     text collate "C" not null,
    rule     bigint not null,
    key      text collate "C" not null
) with (fillfactor = 50);
