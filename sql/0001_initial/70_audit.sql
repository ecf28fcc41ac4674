-- The audit log: each action that people take is recorded, for every caller.

-- Records who did what. The actor is the session's user unless the caller names one. Returns the row's id.
create function breakwater.record_action(
    p_actor text, p_action text, p_target text, p_reason text, p_details jsonb default '{}'
) returns bigint
language sql set search_path = pg_catalog, pg_temp
as $$
    insert into breakwater.audit (actor, action, target, reason, details)
    values (left(coalesce(nullif(p_actor, ''), session_user), 200), p_action, left(p_target, 500),
            left(nullif(p_reason, ''), 2000), p_details)
    returning id
$$;
