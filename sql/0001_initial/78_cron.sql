-- Cron expressions: reading them, and finding the next local time that one matches. Time zones are in 78_slots.sql,
-- and the type breakwater.cron is in 14_schedule_tables.sql.
--
-- Five fields: minute (0-59), hour (0-23), day of the month (1-31), month (1-12 or JAN-DEC) and day of the week (0-7 or
-- SUN-SAT; 0 and 7 are Sunday). Each is `*`, or a list of values, ranges `a-b` and steps `*/n`, `a-b/n`, `a/n`. If both
-- days are restricted, a day has to match one of them. Beyond these, the forms on whose meaning the common dialects
-- agree: `?` for `*` in a day; `L`, `L-3`, `15W` and `LW` for days of the month; `5#2` and `5L` for days of the week.
-- Where the dialects disagree about an expression, it is refused, with a message that says how else to write it.

-- Refuses a cron expression.
create function breakwater.refuse_cron(p_fault text, p_hint text) returns void
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$ begin raise exception '%', p_fault using errcode = '22023', hint = p_hint; end $$;

-- The value of a name or number in a field. `p_names` are the names of the values from p_low on.
create function breakwater.cron_value(p_text text, p_what text, p_low integer, p_high integer, p_names text[])
returns integer
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_place integer := array_position(p_names, upper(p_text));
begin
    if v_place is not null then
        return p_low + v_place - 1;
    elsif p_text ~ '^[0-9]{1,4}$' and p_text::integer between p_low and p_high then
        return p_text::integer;
    end if;
    perform breakwater.refuse_cron(
        format('the %s %s is not %s to %s', p_what, to_json(p_text), p_low, p_high),
        case when p_names <> '{}' then format('Give a number, or a name such as %s.', p_names[2])
             else 'Give a number, a range such as 1-5, a step such as */5, a list such as 1,3, or *.' end);
end
$$;

-- The values of one item of a field: `*`, `a`, `a-b`, each perhaps with a step. p_end is the last value of `*` and of
-- `a/n`. It differs from p_high, the highest value, for weekdays only.
create function breakwater.cron_item(
    p_item text, p_what text, p_low integer, p_high integer, p_end integer, p_names text[]
) returns integer[]
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_range text := split_part(p_item, '/', 1);
    v_step  text := substr(p_item, length(v_range) + 2);
    v_from  integer := p_low;
    v_to    integer := p_end;
begin
    if p_item = '' then
        perform breakwater.refuse_cron(format('the %s has an empty item', p_what),
                                       'Items are separated by single commas, such as 1,3.');
    elsif p_item like '%/%' and (v_step !~ '^[0-9]{1,4}$' or v_step ~ '^0+$') then
        perform breakwater.refuse_cron(
            format('the step of the %s %s is not a positive number', p_what, to_json(p_item)),
            'Write a step as */5 or 10-50/5.');
    end if;
    if v_range ~ '^[^-]+-[^-]+$' then
        v_from := breakwater.cron_value(split_part(v_range, '-', 1), p_what, p_low, p_high, p_names);
        v_to := breakwater.cron_value(split_part(v_range, '-', 2), p_what, p_low, p_high, p_names);
        -- A range may end with Sunday, which is the seventh day then.
        if upper(split_part(v_range, '-', 2)) = 'SUN' and v_from > 0 then
            v_to := p_high;
        end if;
        if v_from > v_to then
            perform breakwater.refuse_cron(format('the %s %s goes backwards', p_what, to_json(p_item)),
                                           format('Write two ranges: %s-%s,%s-%s.', v_from, p_end, p_low, v_to));
        end if;
    elsif v_range <> '*' then
        v_from := breakwater.cron_value(v_range, p_what, p_low, p_high, p_names);
        v_to := case when v_step = '' then v_from else greatest(v_from, p_end) end;
    end if;
    if v_step <> '' and v_step::integer > greatest(v_to - v_from, 1) then
        perform breakwater.refuse_cron(
            format('the step of the %s %s is longer than its range', p_what, to_json(p_item)),
            'A step starts again in each hour, day, month or year. For any other interval, use every, such as 90m.');
    end if;
    return array(select generate_series(v_from, v_to, coalesce(nullif(v_step, '')::integer, 1)));
end
$$;

-- The values of a list of items, in order, each once.
create function breakwater.cron_list(
    p_items text[], p_what text, p_low integer, p_high integer, p_end integer default null, p_names text[] default '{}'
) returns integer[]
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(distinct v order by v), '{}')
      from unnest(p_items) i(item),
           unnest(breakwater.cron_item(i.item, p_what, p_low, p_high, coalesce(p_end, p_high), p_names)) v
$$;

-- Reads a cron expression. Refuses one that is wrong or never matches.
create function breakwater.read_cron(p_text text) returns breakwater.cron
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    c_weekdays constant text[] := '{SUN,MON,TUE,WED,THU,FRI,SAT}';
    c_months   constant text[] := '{JAN,FEB,MAR,APR,MAY,JUN,JUL,AUG,SEP,OCT,NOV,DEC}';
    v_text     text := btrim(p_text, E' \t');
    v_field    text[];
    v_items    text[];
    v_cron     breakwater.cron;
    v_dom      text;
    v_dow      text;
begin
    if octet_length(v_text) > 500 then
        perform breakwater.refuse_cron(format('the cron expression has %s bytes', octet_length(v_text)),
                                       'It has at most 500.');
    end if;
    v_text := case lower(v_text)
                  when '@yearly' then '0 0 1 1 *' when '@annually' then '0 0 1 1 *' when '@monthly' then '0 0 1 * *'
                  when '@weekly' then '0 0 * * 0' when '@daily' then '0 0 * * *' when '@midnight' then '0 0 * * *'
                  when '@hourly' then '0 * * * *' else v_text end;
    if v_text like '@%' then
        perform breakwater.refuse_cron(
            format('%s is not known', to_json(v_text)),
            'There are @yearly, @monthly, @weekly, @daily and @hourly. For an interval, use every, such as 90s.');
    end if;
    v_field := regexp_split_to_array(v_text, '[ \t]+');
    if coalesce(v_text, '') = '' or cardinality(v_field) <> 5 then
        perform breakwater.refuse_cron(
            format('the cron expression %s has %s fields, not 5', to_json(p_text),
                   case when coalesce(v_text, '') = '' then 0 else cardinality(v_field) end),
            'They are minute, hour, day of the month, month and day of the week, such as 0 3 * * MON-FRI.'
            || case when cardinality(v_field) in (6, 7) then ' There are no seconds: use every, such as 10s.'
                    else '' end);
    end if;
    v_cron.minutes := breakwater.cron_list(string_to_array(v_field[1], ','), 'minute', 0, 59);
    v_cron.hours := breakwater.cron_list(string_to_array(v_field[2], ','), 'hour', 0, 23);
    v_cron.months := breakwater.cron_list(string_to_array(v_field[4], ','), 'month', 1, 12, 12, c_months);
    v_cron.has_wildcard := v_field[1] like '%*%' or v_field[2] like '%*%';

    v_dom := upper(case when v_field[3] = '?' then '*' else v_field[3] end);
    v_dow := upper(case when v_field[5] = '?' then '*' else v_field[5] end);
    v_cron.any_day := v_dom in ('*', '*/1');
    v_cron.any_weekday := v_dow in ('*', '*/1');
    if not v_cron.any_day and not v_cron.any_weekday and (v_dom ~ '[*?W]|L-' or v_dow ~ '[*?#]|[A-Z0-9]L') then
        perform breakwater.refuse_cron(
            format('the day of the month %s and the day of the week %s are both restricted',
                   to_json(v_field[3]), to_json(v_field[5])),
            'With such a form in one of them, dialects disagree on whether a day has to match both or one. '
            || 'To match either, make two schedules, or write 1-31/2 for */2.');
    end if;

    v_items := string_to_array(v_dom, ',');
    v_cron.days := breakwater.cron_list(array(select i from unnest(v_items) i where i !~ '^(L|LW|L-[0-9]+|[0-9]+W)$'),
                                        'day of the month', 1, 31);
    v_cron.days_before_end := array(
        select breakwater.cron_value(coalesce(nullif(substr(i, 3), ''), '0'), 'day before the month''s last', 0, 30,
                                     '{}')
          from unnest(v_items) i where i ~ '^L(-[0-9]+)?$');
    v_cron.near_days := array(
        select case i when 'LW' then 0
                      else breakwater.cron_value(rtrim(i, 'W'), 'day of the month before W', 1, 28, '{}') end
          from unnest(v_items) i where i ~ '^(L|[0-9]+)W$');

    v_items := string_to_array(v_dow, ',');
    if 'L' = any (v_items) then
        perform breakwater.refuse_cron(
            'the day of the week is L alone',
            'Dialects disagree on it. Write 6 for Saturday, or 6L for the month''s last Saturday.');
    end if;
    v_cron.weekdays := array(
        select distinct d % 7
          from unnest(breakwater.cron_list(array(select i from unnest(v_items) i where i !~ '^[0-9A-Z]+(#.*|L)$'),
                                           'day of the week', 0, 7, 6, c_weekdays)) d
         order by 1);
    v_cron.nth_weekdays := array(
        select 10 * (breakwater.cron_value(regexp_replace(i, '(#.*|L)$', ''), 'day of the week', 0, 7, c_weekdays) % 7)
               + case when i like '%#%'
                      then breakwater.cron_value(split_part(i, '#', 2), 'number of a weekday in its month', 1, 5, '{}')
                      else 9 end
          from unnest(v_items) i where i ~ '^[0-9A-Z]+(#.*|L)$');
    if v_cron.weekdays <> '{}' and v_cron.nth_weekdays <> '{}' then
        perform breakwater.refuse_cron(
            format('the day of the week %s has both whole weekdays and some of a month', to_json(v_field[5])),
            'Dialects disagree on it. Make two schedules.');
    end if;
    -- The calendar repeats after 400 years; the rarest date, the fifth of a weekday in a February, after 40.
    if breakwater.next_match(v_cron, '2000-01-01') is null then
        perform breakwater.refuse_cron(format('the cron expression %s matches no day of any year', to_json(p_text)),
                                       'See its day of the month and its month.');
    end if;
    return v_cron;
end
$$;

-- Whether a day matches a cron expression.
create function breakwater.matches_day(p_cron breakwater.cron, p_day date) returns boolean
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_day     integer := extract(day from p_day);
    v_last    integer;
    v_weekday integer;
    v_near    integer;
    v_in_days boolean;
begin
    if not extract(month from p_day)::integer = any (p_cron.months) then
        return false;
    elsif p_cron.any_day and p_cron.any_weekday then
        return true;
    end if;
    v_weekday := extract(dow from p_day);
    v_last := extract(day from date_trunc('month', p_day::timestamp) + interval '1 month - 1 day');
    if not p_cron.any_day then
        v_in_days := v_day = any (p_cron.days) or v_last - v_day = any (p_cron.days_before_end);
        if not v_in_days and p_cron.near_days <> '{}' and v_weekday between 1 and 5 then
            foreach v_near in array p_cron.near_days loop
                if v_near = 0 then
                    v_in_days := v_last - v_day < case v_weekday when 5 then 3 else 1 end;
                elsif v_near <= v_last then
                    -- A working day stands for a Saturday after it and a Sunday before it, but not across months.
                    v_in_days := v_near = v_day
                        or (v_weekday = 5 and v_near - v_day = 1)
                        or (v_weekday = 5 and v_near - v_day = 2 and v_near = v_last)
                        or (v_weekday = 1 and v_near - v_day = -1)
                        or (v_weekday = 1 and v_near - v_day = -2 and v_near = 1);
                end if;
                exit when v_in_days;
            end loop;
        end if;
        if p_cron.any_weekday or v_in_days then
            return v_in_days;
        end if;
    end if;
    return v_weekday = any (p_cron.weekdays)
        or 10 * v_weekday + (v_day + 6) / 7 = any (p_cron.nth_weekdays)
        or (v_last - v_day < 7 and 10 * v_weekday + 9 = any (p_cron.nth_weekdays));
end
$$;

-- The first local time after another that matches a cron expression, to the minute. null: there is none for 50 years.
create function breakwater.next_match(p_cron breakwater.cron, p_after timestamp) returns timestamp
language plpgsql immutable set search_path = pg_catalog, pg_temp
as $$
declare
    v_start  timestamp := date_trunc('minute', p_after) + interval '1 minute';
    v_day    date := v_start::date;
    v_hour   integer := extract(hour from v_start);
    v_minute integer := extract(minute from v_start);
    v_month  integer;
    v_next   integer;
begin
    if breakwater.matches_day(p_cron, v_day) then
        if v_hour = any (p_cron.hours) then
            select min(m) into v_next from unnest(p_cron.minutes) m where m >= v_minute;
            if v_next is not null then
                return v_day + make_time(v_hour, v_next, 0);
            end if;
        end if;
        select min(h) into v_next from unnest(p_cron.hours) h where h > v_hour;
        if v_next is not null then
            return v_day + make_time(v_next, p_cron.minutes[1], 0);
        end if;
    end if;
    while p_after is not null loop
        v_day := v_day + 1;
        v_month := extract(month from v_day);
        if not v_month = any (p_cron.months) then
            v_day := (date_trunc('month', v_day::timestamp) + interval '1 month')::date - 1;
            continue when v_day < p_after + interval '50 years';
        end if;
        if breakwater.matches_day(p_cron, v_day) then
            return v_day + make_time(p_cron.hours[1], p_cron.minutes[1], 0);
        end if;
        exit when v_day > p_after + interval '50 years';
    end loop;
    return null;
end
$$;
