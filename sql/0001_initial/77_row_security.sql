-- Some providers switch on row-level security for every table of a database. A table without a policy then shows no
-- rows. The owner of the tables is exempt, and so are the functions here, which run with the owner's rights, unless
-- row-level security is forced.

-- Refuses to continue if row-level security is forced, because every claim would find nothing without an error.
create function breakwater.refuse_row_security() returns void
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
declare
    v_tables text;
begin
    select string_agg(c.relname, ', ' order by c.relname) into v_tables
      from pg_class c
     where c.relnamespace = 'breakwater'::regnamespace and c.relkind in ('r', 'p') and row_security_active(c.oid)
       and not exists (select from pg_policy p where p.polrelid = c.oid);
    if v_tables is not null then
        raise exception 'row-level security is forced on breakwater''s tables, without a policy, so their owner % sees nothing: %',
            current_user, v_tables
            using errcode = '42501',
                  hint = 'ALTER TABLE breakwater.… NO FORCE ROW LEVEL SECURITY for each of them, or give the owner BYPASSRLS.';
    end if;
end
$$;

-- Workers read the version before anything else, so they must see it even if row-level security is switched on.
create policy version_is_no_secret on breakwater.schema_version for select using (true);
