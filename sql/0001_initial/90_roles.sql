-- Four roles with minimal privileges. Grant them to your own roles: GRANT breakwater_enqueue TO web_app;
--
--   breakwater_enqueue  adds jobs, and sees nothing but their numbers
--   breakwater_worker   what `worker run` needs
--   breakwater_admin    reads everything; redrives, cancels, pauses, and overrides circuits
--   breakwater_monitor  reads how much work there is, for an autoscaler; no job, no payload
--
-- Roles belong to the whole server. If the user of this migration may not create roles, only the owner has privileges.

revoke all on all functions in schema breakwater from public;

-- Every user who may insert reads the first sequence, and every user who may change a job's position reads the second.
grant select on sequence breakwater.anyone_asleep, breakwater.job_position to public;
-- The tables' constraints call this function.
grant execute on function breakwater.has_control_characters to public;

do $$
declare
    v_role text;
begin
    foreach v_role in array
        array['breakwater_enqueue', 'breakwater_worker', 'breakwater_admin', 'breakwater_monitor']
    loop
        if not exists (select from pg_roles where rolname = v_role) then
            begin
                execute format('create role %I nologin', v_role);
            exception
                -- The migration of another database has created the role at the same time.
                when duplicate_object or unique_violation then null;
                when insufficient_privilege then
                    raise notice 'the role % is not created: this needs CREATEROLE', v_role;
            end;
        end if;
    end loop;

    if exists (select from pg_roles where rolname = 'breakwater_enqueue') then
        grant usage on schema breakwater to breakwater_enqueue;
        grant insert (queue, kind, priority, run_at, max_attempts, payload, unique_key, traceparent, tracestate)
            on breakwater.job to breakwater_enqueue;
        -- This is for INSERT … RETURNING id.
        grant select (id) on breakwater.job to breakwater_enqueue;
        grant usage on sequence breakwater.job_position to breakwater_enqueue;
        grant execute on function breakwater.enqueue, breakwater.enqueue_many, breakwater.enqueue_lines,
            breakwater.import_position, breakwater.batch, breakwater.add_to_batch, breakwater.close_batch
            to breakwater_enqueue;
    end if;

    if exists (select from pg_roles where rolname = 'breakwater_worker') then
        grant usage on schema breakwater to breakwater_worker;
        grant select on breakwater.schema_version to breakwater_worker;
        grant execute on function
            breakwater.cancel_requests, breakwater.report_progress, breakwater.checkpoints,
            breakwater.prepare_sql_handler,
            breakwater.register, breakwater.renew_registration, breakwater.beat, breakwater.maintain, breakwater.chores,
            breakwater.reconcile, breakwater.leave, breakwater.claim, breakwater.dead_letter_unreadable,
            breakwater.flush, breakwater.sleep, breakwater.poll_hot_kinds,
            breakwater.stop_sleeping, breakwater.settle, breakwater.claim_suspects, breakwater.survived,
            breakwater.sample_fleet, breakwater.transitions_after, breakwater.lock_waits,
            breakwater.next_notice, breakwater.notice_ended, breakwater.set_configured_schedules,
            breakwater.endpoints_named, breakwater.register_endpoint_kinds, breakwater.record_endpoint_calls,
            breakwater.next_endpoint_notice, breakwater.endpoint_notice_ended
            to breakwater_worker;
        grant select on breakwater.endpoint to breakwater_worker;
    end if;

    if exists (select from pg_roles where rolname = 'breakwater_monitor') then
        grant usage on schema breakwater to breakwater_monitor;
        grant select on breakwater.scaling to breakwater_monitor;
        grant execute on function breakwater.workload to breakwater_monitor;
    end if;

    if exists (select from pg_roles where rolname = 'breakwater_admin') then
        grant usage on schema breakwater to breakwater_admin;
        grant select on all tables in schema breakwater to breakwater_admin;
        -- It holds the customers' secrets. Administrators read breakwater.endpoint_status.
        revoke all on breakwater.endpoint from breakwater_admin;
        grant execute on function
            breakwater.enqueue, breakwater.enqueue_many, breakwater.batch, breakwater.add_to_batch,
            breakwater.close_batch, breakwater.job_tree,
            breakwater.redrive(bigint, text, text, jsonb), breakwater.redrive(text, text, integer, text, text),
            breakwater.purge(bigint, text, text), breakwater.purge(text, text, interval, integer, text, text),
            breakwater.redrive_some, breakwater.purge_some,
            breakwater.rename_kind, breakwater.rename_kind_some, breakwater.repair_sequences,
            breakwater.cancel, breakwater.run_now, breakwater.run_through, breakwater.set_priority, breakwater.subscribe, breakwater.unsubscribe,
            breakwater.enqueue_lines, breakwater.import_position, breakwater.workload,
            breakwater.drain_worker, breakwater.undrain_worker,
            breakwater.edit_job, breakwater.why_waits, breakwater.cancel_jobs, breakwater.run_jobs_now,
            breakwater.cancel_jobs_some, breakwater.run_jobs_now_some,
            breakwater.set_schedule, breakwater.pause_schedule, breakwater.resume_schedule, breakwater.run_schedule,
            breakwater.remove_schedule,
            breakwater.pause_queue, breakwater.pause_kind, breakwater.resume_queue, breakwater.resume_kind,
            breakwater.open_circuit, breakwater.close_circuit, breakwater.disable_circuit,
            breakwater.observe_circuit, breakwater.reset_circuit, breakwater.probe_circuit,
            breakwater.set_limit, breakwater.remove_limit, breakwater.set_key_limit, breakwater.remove_key_limit, breakwater.set_share_weight,
            breakwater.set_endpoint, breakwater.disable_endpoint, breakwater.enable_endpoint, breakwater.remove_endpoint,
            breakwater.redeliver_endpoint,
            -- These are for the dashboard.
            breakwater.rates, breakwater.backlog, breakwater.ready_lanes, breakwater.waiting_for_time,
            breakwater.waiting_for_jobs,
            breakwater.kinds_with_retries, breakwater.waiting_behind, breakwater.window_parts,
            breakwater.find_jobs, breakwater.find_ended, breakwater.has_key, breakwater.matches_path, breakwater.dead_letter_groups, breakwater.count_dead_letters,
            breakwater.latest_failures, breakwater.recent_call_counts, breakwater.failures_in_words, breakwater.probes_in_words,
            breakwater.evidence_of_round, breakwater.dead_letters_of_incident,
            -- The views call these, with the rights of the user who reads the view.
            breakwater.is_circuit_of, breakwater.is_handler_of, breakwater.is_pause_of, breakwater.has_run,
            breakwater.circuit_name, breakwater.policy_of, breakwater.window_of, breakwater.clock,
            breakwater.why_held_back, breakwater.rule_in_words, breakwater.limit_in_words, breakwater.kinds_of_rule, breakwater.applies_to,
            breakwater.state_of_rule, breakwater.held_under, breakwater.held_back_by, breakwater.paused_until,
            breakwater.starts_left, breakwater.adapted_concurrency, breakwater.adaptation_of, breakwater.first_adaptation,
            breakwater.key_of, breakwater.weight_of, breakwater.most_weight, breakwater.most_weight_of_key,
            breakwater.rule_of_key,
            breakwater.self_suspensions, breakwater.why_unseen, breakwater.why_dependent, breakwater.retries_left, breakwater.lock_waits,
            breakwater.slot_key, breakwater.next_slot, breakwater.next_slots, breakwater.next_cron_slot,
            breakwater.moment_of, breakwater.offset_change, breakwater.next_match, breakwater.matches_day
            to breakwater_admin;
    end if;
end
$$;
