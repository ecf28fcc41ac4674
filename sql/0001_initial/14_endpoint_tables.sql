-- The tables of endpoints: the URLs of customers, to which jobs are sent by name (see 78_endpoints.sql).

-- One row for each endpoint. It holds secrets, so only workers read it; breakwater.endpoint_status is for people.
create table breakwater.endpoint (
    name            text collate "C" primary key
                    constraint endpoint_name_is_1_to_200_bytes check (octet_length(name) between 1 and 200),
    url             text not null,
    -- Each of these keys signs each request, so that a receiver may know the old one or the new one.
    secrets         text[] not null default '{}',
    -- Headers of each request, by name.
    headers         jsonb not null default '{}',
    -- The endpoint is disabled when all of its deliveries have failed for this long. null: the rule of the handler
    -- applies; 0: it is never disabled by this rule.
    disable_after   interval,
    -- How many of its deliveries may run at once, and how many may start a second; null: any number.
    concurrency     integer,
    rate            double precision,
    burst           integer,
    -- When, by whom and why it was disabled; null: it is enabled.
    disabled_at     timestamptz,
    disabled_by     text,
    disabled_reason text,
    -- The first and the latest failed delivery since one succeeded, as far as workers have reported; null: the last one
    -- succeeded.
    failing_since   timestamptz,
    failed_at       timestamptz,
    last_failure    text,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    constraint endpoint_name_has_no_control_characters check (not breakwater.has_control_characters(name))
) with (fillfactor = 70);

-- The kinds whose jobs are sent to endpoints, as registered by the workers that handle them.
create table breakwater.endpoint_kind (
    kind          text collate "C" primary key,
    -- Where the payload names the endpoint. It is also the key of the kind's circuits.
    path          text[] not null,
    -- The rule for endpoints without their own; null: such endpoints are not disabled.
    disable_after interval,
    -- What happens to the jobs of a disabled endpoint.
    when_disabled text not null check (when_disabled in ('hold', 'dead_letter')),
    updated_at    timestamptz not null default now()
);

-- Messages that say that an endpoint was disabled by its rule, until they are delivered to the configured `notify:`, or
-- given up.
create table breakwater.endpoint_notice (
    id          bigint generated always as identity primary key,
    endpoint    text collate "C" not null,
    message     jsonb not null,
    created_at  timestamptz not null default now(),
    -- When its delivery was first attempted, how many attempts it had, and when the next may begin.
    first_tried timestamptz,
    tries       integer not null default 0,
    next_try    timestamptz not null default now()
);
