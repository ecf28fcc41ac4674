-- Enqueueing in bulk. A long input is added in portions that are each committed, so that it can be interrupted and
-- resumed.

-- The position of an input of this login: 0 lines if it is unknown. `is_same` says whether the given line is the last
-- one that was added (true if no line was added).
create function breakwater.import_position(name text, line text default null, out lines bigint, out is_same boolean)
language sql stable security definer set search_path = pg_catalog, pg_temp
as $$
    select coalesce(max(i.lines), 0), coalesce(bool_and(i.last_line = md5(line)), true)
      from breakwater.import i
     where i.owner = session_user::text collate "C" and i.name = import_position.name collate "C"
$$;

-- Enqueues a portion of lines. Each is a JSON object with a kind and, optionally, a payload, queue, priority, run_at,
-- max_attempts, unique_key, traceparent and tracestate; `defaults` has the same keys. A line adds nothing if a live job
-- has its unique key. Returns how many jobs were added.
--
-- If `import` names an import of this login, `first_line` and `last_line` are the numbers of the first and the last
-- line, and `last_text` is the last line's text. The lines must continue at the import's position. Locks: the import's
-- row; the new jobs.
create function breakwater.enqueue_lines(
    lines jsonb[], defaults jsonb default '{}', import text default null,
    first_line bigint default null, last_line bigint default null, last_text text default null
) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    v_stands bigint;
    v_count  integer;
begin
    if import is not null then
        insert into breakwater.import (name, lines, last_line) values (enqueue_lines.import, 0, '')
        on conflict do nothing;
        select i.lines into v_stands from breakwater.import i
         where i.owner = session_user::text collate "C" and i.name = enqueue_lines.import collate "C" for update;
        if v_stands >= first_line then
            raise exception 'the import ''%'' is at line % already, not at %', import, v_stands, first_line - 1
                using errcode = '55006', hint = 'Somebody else works on it; wait for its end, then run it again.';
        end if;
        update breakwater.import i
           set lines = enqueue_lines.last_line, last_line = md5(last_text), updated_at = now()
         where i.owner = session_user::text collate "C" and i.name = enqueue_lines.import collate "C";
    end if;
    perform breakwater.check_enqueue(l.line ->> 'kind', coalesce(l.line ->> 'queue', 'default'),
                                     coalesce((l.line ->> 'priority')::integer, 5), (l.line ->> 'max_attempts')::integer)
       from (select defaults || u.line as line from unnest(enqueue_lines.lines) u(line)) l;
    insert into breakwater.job (kind, payload, queue, priority, run_at, max_attempts, unique_key, traceparent,
                                tracestate)
    select l.line ->> 'kind', coalesce(l.line -> 'payload', '{}'), coalesce(l.line ->> 'queue', 'default'),
           coalesce((l.line ->> 'priority')::integer, 5),
           case when (l.line ->> 'run_at')::timestamptz > now() then (l.line ->> 'run_at')::timestamptz end,
           (l.line ->> 'max_attempts')::integer, l.line ->> 'unique_key', l.line ->> 'traceparent',
           l.line ->> 'tracestate'
      from (select defaults || u.line as line, u.place
              from unnest(enqueue_lines.lines) with ordinality u(line, place)) l
     order by l.place
    on conflict (kind, unique_key) where unique_key is not null do nothing;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;
