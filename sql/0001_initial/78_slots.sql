-- The slots of a schedule: the times of its cron expression in its time zone, or the multiples of its interval.
--
-- Daylight saving: a fixed time that the clock skips comes at the end of the gap, and a fixed time that the clock shows
-- twice comes the first time only. An expression with a `*` in its minute or hour comes whenever the clock shows such a
-- time: never in a gap, and both times where the clock is set back. Intervals follow UTC.

-- The first moment in (p_from, p_until] at which a zone has the offset that it has at p_until; the two differ.
create function breakwater.offset_change(p_zone text, p_from timestamptz, p_until timestamptz) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_before bigint := ceil(extract(epoch from p_from));
    v_after  bigint := floor(extract(epoch from p_until));
    v_shift  interval := (p_until at time zone p_zone) - (p_until at time zone 'UTC');
    v_middle bigint;
begin
    -- Zones change at whole seconds.
    while v_after - v_before > 1 loop
        v_middle := (v_before + v_after) / 2;
        if (to_timestamp(v_middle) at time zone p_zone) - (to_timestamp(v_middle) at time zone 'UTC') = v_shift then
            v_after := v_middle;
        else
            v_before := v_middle;
        end if;
    end loop;
    return to_timestamp(v_after);
end
$$;

-- The moment at which a zone's clock shows a local time: the first one if it shows it twice, and the end of the gap if
-- it never does.
create function breakwater.moment_of(
    p_local timestamp, p_zone text, out moment timestamptz, out is_in_gap boolean
)
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_back interval;
begin
    -- PostgreSQL takes the offset before a gap, and the later moment of two.
    moment := p_local at time zone p_zone;
    v_back := (moment at time zone p_zone) - p_local;
    is_in_gap := v_back <> interval '0';
    if is_in_gap then
        moment := breakwater.offset_change(p_zone, moment - v_back, moment);
        return;
    end if;
    -- By how much the clock was set back within the last 24 hours.
    v_back := ((moment - interval '24 hours') at time zone p_zone) - p_local + interval '24 hours';
    if v_back > interval '0' and (moment - v_back) at time zone p_zone = p_local then
        moment := moment - v_back;
    end if;
end
$$;

-- The first slot after a moment of a cron expression in a time zone. null: there is none for decades.
create function breakwater.next_cron_slot(p_cron breakwater.cron, p_zone text, p_after timestamptz) returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_local   timestamp := p_after at time zone p_zone;
    v_match   timestamp := v_local;
    v_slot    timestamptz;
    v_gap     boolean;
    v_back    interval;
    v_change  timestamptz;
begin
    -- The moments of local times are in the same order as the local times. Some may not be later than p_after: those
    -- that the clock shows for the second time after p_after.
    loop
        v_match := breakwater.next_match(p_cron, v_match);
        exit when v_match is null;
        select m.moment, m.is_in_gap into v_slot, v_gap from breakwater.moment_of(v_match, p_zone) m;
        exit when v_slot > p_after and not (v_gap and p_cron.has_wildcard);
    end loop;
    if v_match is null or not p_cron.has_wildcard then
        return case when v_match is not null then v_slot end;
    end if;
    -- Where the clock is set back around p_after, local times come a second time.
    v_back := ((p_after - interval '24 hours') at time zone p_zone)
              - ((p_after + interval '24 hours') at time zone p_zone) + interval '48 hours';
    if v_back > interval '0' then
        v_change := breakwater.offset_change(p_zone, p_after - interval '24 hours', p_after + interval '24 hours');
        if p_after < v_change then
            v_local := (v_change at time zone p_zone) - interval '1 second';
        end if;
        v_match := breakwater.next_match(p_cron, v_local);
        if v_match < (v_change at time zone p_zone) + v_back then
            v_slot := least(v_slot, v_change + (v_match - (v_change at time zone p_zone)));
        end if;
    end if;
    return v_slot;
end
$$;

-- The first slot after a moment, of a cron expression in a time zone or of an interval.
create function breakwater.next_slot(p_cron breakwater.cron, p_every interval, p_zone text, p_after timestamptz)
returns timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_every bigint;
begin
    if p_every is null then
        return breakwater.next_cron_slot(p_cron, p_zone, p_after);
    end if;
    -- In microseconds.
    v_every := extract(epoch from p_every) * 1000000;
    return timestamptz '1970-01-01Z' + make_interval(
        secs => ((floor(extract(epoch from p_after) * 1000000 / v_every) + 1) * v_every / 1000000)::double precision);
end
$$;

-- The next slots after a moment, in order, at most p_limit.
create function breakwater.next_slots(
    p_cron breakwater.cron, p_every interval, p_zone text, p_after timestamptz, p_limit integer
) returns setof timestamptz
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_slot timestamptz := p_after;
begin
    for i in 1 .. p_limit loop
        v_slot := breakwater.next_slot(p_cron, p_every, p_zone, v_slot);
        exit when v_slot is null or v_slot > '9999-01-01Z';
        return next v_slot;
    end loop;
end
$$;
