-- One worker leads the fleet. Only the leader does the chores.

-- Acquires or renews the leadership for p_seconds, if no other worker holds it. Returns the term, or null for a
-- follower. The leadership is only a row, and no session lock, so it works through any pooler. It never waits.
create function breakwater.lead(p_worker bigint, p_seconds double precision) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_leader breakwater.leader;
begin
    -- Followers only read the row. If they locked it, the leader could find it locked and fail to renew its term.
    select * into v_leader from breakwater.leader l;
    if not found then
        insert into breakwater.leader (worker, term, expires_at)
        values (p_worker, 1, now() + make_interval(secs => p_seconds))
        on conflict do nothing;
        return case when found then 1 end;
    elsif v_leader.worker <> p_worker and v_leader.expires_at >= now() then
        return null;
    end if;
    select * into v_leader from breakwater.leader l
     where l.worker = p_worker or l.expires_at < now()
       for update skip locked;
    if not found then
        return null;
    end if;
    -- Each chore calls this, so the row is not written again within half a second.
    if v_leader.worker = p_worker and v_leader.expires_at > now() + make_interval(secs => p_seconds - 0.5) then
        return v_leader.term;
    elsif v_leader.worker <> p_worker then
        v_leader.term := v_leader.term + 1;
    end if;
    perform breakwater.record_absence();
    update breakwater.leader l
       set worker = p_worker, term = v_leader.term, expires_at = now() + make_interval(secs => p_seconds),
           renewed_at = now();
    return v_leader.term;
end
$$;
