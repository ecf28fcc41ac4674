-- The functions of users that run jobs (`sql:` in the configuration of a handler).

-- Checks the function and the role of such a handler, and makes `pg_temp.breakwater_call`, which calls the function
-- with the rights of the role. A worker calls this once in each of its sessions that run such jobs.
--
-- `pg_temp.breakwater_call` is a SECURITY DEFINER function of the role. Postgres forbids SET ROLE, RESET ROLE and SET
-- SESSION AUTHORIZATION while one runs, so the user's function cannot get the rights of the worker. After SET ROLE
-- alone, it could. It checks deferred constraints too: at COMMIT, their triggers would run with the rights of the worker.
--
-- Returns the number of that function and the version of its row. The role owns it and could replace it, which the
-- worker notices by the version.
--
-- This is not SECURITY DEFINER, because the caller must be a member of the role. Raises BW006 with a message for
-- people.
create function breakwater.prepare_sql_handler(p_function text, p_role text, out wrapper oid, out version text)
language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
    v_name   text[] := parse_ident(p_function);
    v_found  record;
    v_before text := current_setting('role');
    v_call   text;
begin
    select p.oid, p.pronargs, p.proretset, p.prorettype = 'void'::regtype as is_void, p.pronamespace as schema,
           format('%I.%I', n.nspname, p.proname) as name
      into v_found
      from pg_proc p
      join pg_namespace n on n.oid = p.pronamespace
     where cardinality(v_name) = 2 and n.nspname = v_name[1] and p.proname = v_name[2] and p.prokind = 'f'
       and oidvectortypes(p.proargtypes) in ('jsonb', 'jsonb, jsonb')
     order by p.pronargs desc
     limit 1;
    if not found then
        raise exception using errcode = 'BW006',
            message = format('there is no function %s(jsonb, jsonb) or %s(jsonb)', p_function, p_function),
            hint = 'Create it: its first parameter is the payload, and the second, if it has one, is the job.';
    end if;
    if v_found.proretset then
        raise exception using errcode = 'BW006',
            message = format('the function %s returns a set', v_found.name),
            hint = 'Let it return one value, such as jsonb, or void.';
    end if;
    if not exists (select from pg_roles where rolname = p_role) then
        raise exception using errcode = 'BW006',
            message = format('the role %I does not exist', p_role),
            hint = format('CREATE ROLE %I NOLOGIN; GRANT %I TO %I;', p_role, p_role, session_user);
    end if;
    if (select rolsuper from pg_roles where rolname = p_role)
       or has_function_privilege(p_role, 'breakwater.settle'::regproc, 'execute')
    then
        raise exception using errcode = 'BW006',
            message = format('the role %I has the rights of a worker or of a superuser', p_role),
            hint = 'Give the handler a role of its own that has only what its function needs.';
    end if;
    if not has_schema_privilege(p_role, v_found.schema, 'usage')
       or not has_function_privilege(p_role, v_found.oid, 'execute')
    then
        raise exception using errcode = 'BW006',
            message = format('the role %I may not call the function %s', p_role, v_found.name),
            hint = format('GRANT USAGE ON SCHEMA %I TO %I; GRANT EXECUTE ON FUNCTION %s TO %I;', v_name[1], p_role,
                          v_found.oid::regprocedure, p_role);
    end if;
    if not has_database_privilege(p_role, current_database(), 'temporary') then
        raise exception using errcode = 'BW006',
            message = format('the role %I may not make temporary objects, which the call of its function needs',
                             p_role),
            hint = format('GRANT TEMPORARY ON DATABASE %I TO %I;', current_database(), p_role);
    end if;
    begin
        perform set_config('role', p_role, true);
    exception when insufficient_privilege then
        raise exception using errcode = 'BW006',
            message = format('the worker''s login %I may not take the role %I', session_user, p_role),
            hint = format('GRANT %I TO %I;', p_role, session_user);
    end;
    v_call := v_found.name || case when v_found.pronargs = 2 then '(p_payload, p_job)' else '(p_payload)' end;
    -- The function may have set a time limit, which would end the session before the settle.
    execute format(
        'create function pg_temp.breakwater_call(p_payload jsonb, p_job jsonb) returns jsonb
         language plpgsql security definer as %L',
        format(
            'declare v_result jsonb; begin %s; set constraints all immediate; '
            'set local idle_in_transaction_session_timeout = ''10s''; return v_result; end',
            case when v_found.is_void then 'perform ' || v_call
                 else format('v_result := pg_catalog.to_jsonb(%s)', v_call) end));
    perform set_config('role', v_before, true);
    select p.oid, p.xmin::text into wrapper, version
      from pg_proc p
     where p.oid = 'pg_temp.breakwater_call(jsonb, jsonb)'::regprocedure;
end
$$;
