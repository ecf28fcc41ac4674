/// The roles that may use each object of the schema. An object without an entry fails the test of this matrix, so that
/// a developer who adds one decides here which roles may use it.
enum PrivilegeMatrix {
    enum Role: String, CaseIterable, Sendable {
        case enqueue = "breakwater_enqueue"
        case worker = "breakwater_worker"
        case admin = "breakwater_admin"
        case monitor = "breakwater_monitor"
    }

    /// Tables that administrators read and only their owner writes, except for `exceptions`.
    static let tables: Set<String> = [
        "absence", "adaptive_step", "audit", "call_time", "cancel_request", "circuit", "circuit_incident",
        "circuit_transition", "claim", "dead_letter", "dependant", "dependant_to_check", "dependency",
        "dependency_lock", "ended_dependency", "endpoint", "endpoint_kind", "endpoint_notice", "failure",
        "finished_job", "fleet_sample", "flow_rule", "freed_key", "halted_key", "handler", "horizon", "import",
        "incident_measure", "incident_notice", "job", "key_clock", "key_limit", "key_search", "lane", "leader",
        "lost_worker",
        "outcome", "pause", "probe", "probe_result", "progress", "rate", "rate_horizon", "rate_pause", "recent_call",
        "result", "rule_claim", "schedule", "schedule_slot", "schema_version", "share_turn", "share_weight", "sleeper",
        "sleeper_lock", "suspension", "tail_subscriber", "tally", "test_shot", "worker",
    ]

    /// Views that administrators read.
    static let views: Set<String> = [
        "active_worker", "batch_status", "circuit_status", "depth", "endpoint_status", "finished", "held", "incident",
        "job_status", "limit_status", "obsolete_circuit", "running_job", "scaling", "schedule_status",
        "suspension_status", "worker_status",
    ]

    /// Sequences that only their owner draws from, except for `exceptions`.
    static let sequences: Set<String> = [
        "anyone_asleep", "audit_id_seq", "call_time_id_seq", "circuit_incident_id_seq", "circuit_transition_id_seq",
        "endpoint_notice_id_seq", "failure_id_seq", "flow_rule_id_seq", "freed_key_id_seq", "horizon_id_seq",
        "job_id_seq", "job_position", "lane_id_seq", "lease", "outcome_id", "probe_result_id_seq", "rate_pause_id_seq",
        "recent_call_id_seq", "rule_claim_number", "share_turn_id_seq", "tail_subscriber_id", "worker_id_seq",
    ]

    /// The rights of a role beyond the rules above, in the notation of the catalogue test.
    static let exceptions: [String: [Role: String]] = [
        // Every INSERT reads this sequence, with the rights of any role.
        "anyone_asleep": Dictionary(uniqueKeysWithValues: Role.allCases.map { ($0, "select") }),
        // It holds the customers' secrets. Administrators read endpoint_status.
        "endpoint": [.worker: "select", .admin: ""],
        "job": [
            // Workers alone write id, position, lease, attempt and errors. `INSERT … RETURNING id` needs the right to
            // read id.
            .enqueue:
                "insert(kind,max_attempts,payload,priority,queue,run_at,traceparent,tracestate,unique_key),select(id)"
        ],
        // Every UPDATE of a position reads this sequence.
        "job_position": Dictionary(
            uniqueKeysWithValues: Role.allCases.map { ($0, $0 == .enqueue ? "select,usage" : "select") }
        ),
        "scaling": [.monitor: "select"],
        "schema_version": [.worker: "select"],
    ]

    /// Functions by name, with the roles that may call them.
    static let functions: [String: Set<Role>] = {
        let groups: [(Set<Role>, [String])] = [
            (
                [.enqueue, .admin],
                [
                    "enqueue", "enqueue_many", "enqueue_lines", "import_position", "batch", "add_to_batch",
                    "close_batch",
                ]
            ),
            ([.admin, .monitor], ["workload"]),
            ([.worker, .admin], ["lock_waits"]),
            // The table's constraints call this function for every role that inserts.
            (Set(Role.allCases), ["has_control_characters"]),
            (
                [.worker],
                [
                    "register", "renew_registration", "beat", "maintain", "chores", "reconcile", "leave", "claim",
                    "claim_suspects", "flush", "survived", "dead_letter_unreadable",
                    "sleep", "poll_hot_kinds", "stop_sleeping", "settle", "sample_fleet",
                    "transitions_after", "next_notice", "notice_ended", "set_configured_schedules",
                    "endpoints_named", "register_endpoint_kinds", "record_endpoint_calls", "next_endpoint_notice",
                    "endpoint_notice_ended",
                    "cancel_requests", "report_progress", "checkpoints", "prepare_sql_handler",
                ]
            ),
            (
                [.admin],
                [
                    "rename_kind", "rename_kind_some", "repair_sequences", "why_unseen", "why_dependent", "job_tree",
                    "redrive", "redrive_some", "purge", "purge_some", "cancel", "run_now", "run_through",
                    "edit_job", "why_waits", "cancel_jobs", "run_jobs_now", "cancel_jobs_some",
                    "run_jobs_now_some", "find_ended", "has_key",
                    "set_priority",
                    "drain_worker", "undrain_worker", "pause_queue", "pause_kind", "resume_queue", "resume_kind",
                    "probe_circuit",
                    "set_endpoint", "disable_endpoint", "enable_endpoint", "remove_endpoint", "redeliver_endpoint",
                    "open_circuit", "close_circuit", "disable_circuit", "observe_circuit", "reset_circuit", "rates",
                    "backlog", "ready_lanes", "waiting_for_time", "waiting_for_jobs", "kinds_with_retries",
                    "waiting_behind",
                    "window_parts", "find_jobs", "matches_path", "dead_letter_groups",
                    "latest_failures", "recent_call_counts", "count_dead_letters", "subscribe", "unsubscribe",
                    "circuit_name",
                    "is_circuit_of", "is_handler_of", "is_pause_of", "has_run",
                    "policy_of", "window_of", "clock", "self_suspensions", "retries_left", "dead_letters_of_incident",
                    "failures_in_words", "probes_in_words", "evidence_of_round",
                    "set_limit", "remove_limit", "set_key_limit", "remove_key_limit", "set_share_weight",
                    "why_held_back", "rule_in_words", "limit_in_words", "kinds_of_rule",
                    "applies_to", "state_of_rule", "held_under", "held_back_by", "paused_until", "starts_left",
                    "key_of",
                    "adapted_concurrency", "adaptation_of", "first_adaptation",
                    "weight_of", "most_weight", "most_weight_of_key", "rule_of_key",
                    "set_schedule", "pause_schedule", "resume_schedule", "run_schedule", "remove_schedule",
                    // The view of schedules calls these.
                    "slot_key", "next_slot", "next_slots", "next_cron_slot", "moment_of", "offset_change", "next_match",
                    "matches_day",
                ]
            ),
            (
                [],
                [
                    "request_cancel", "dead_letter_cancelled", "follow_cancel_requests", "prune_progress",
                    "claim_in_order", "claim_newest", "claimable_lanes", "may_vacuum",
                    "has_dependencies", "end_dependencies", "note_ends", "release_dependants", "verdict_on",
                    "waits_for_jobs", "release_dependant", "summary_of_batch", "results_of_batch", "end_waiting",
                    "revive_dependencies",
                    "follow_redriven",
                    "check_dependants", "check_new_dependencies", "find_deleted_dependencies", "forget_dependants",
                    "check_dependencies", "would_wait_for_itself", "dependency_states", "add_dependencies",
                    "add_history_day", "add_history_days", "prepare_history", "drop_history", "finish_done",
                    "claim_times", "finished_row",
                    "change_all_jobs", "change_jobs_some",
                    "check_endpoint", "endpoint_circuits", "hold_endpoint", "release_endpoint", "do_disable_endpoint",
                    "free_endpoint_circuits", "is_endpoint_hold", "needs_hold", "hold_circuit", "origin_of",
                    "prune_endpoint_notices", "run_due_slots",
                    "add_error", "admit", "apply_fallbacks", "check_enqueue", "count_probes", "failure_of",
                    "generation_of", "suspend_briefly", "lead", "lease_probes", "open_time", "others_result",
                    "override_circuit", "pause_scope", "pick_dead_letters", "promote", "prune_calls",
                    "prune_recent_calls", "prune_results", "prune_circuits", "prune_workers", "prune_history",
                    "do_chore",
                    "seconds_to_next_due", "reroute",
                    "reroute_at_once", "record_action",
                    "record_absence", "silence",
                    "record_calls", "record_portion", "refuse_reroute_cycles", "refuse_row_security", "rescue",
                    "resume_scope", "settle_one", "aggregate_rates", "suspend", "tally",
                    "transition", "trip_if_due", "advance_circuits", "unpark", "verdict", "wake", "wake_for_inserted",
                    "write_history", "delete_done", "evidence", "forget_outcomes", "forget_sleepers",
                    "record_sleeper",
                    "has_subscribers",
                    "next_suspects", "run_at_after", "should_run_suspects", "record_run", "record_successes",
                    "sample_circuits",
                    "sample_jobs", "sample_limits", "sample_workers",
                    "are_claims_of", "await_claims", "prune_claims", "claim_parked_probes", "claim_with_care",
                    "close_claims", "commit_durably",
                    "dead_letter_job", "dead_letter_poison", "find_late", "held_suspects", "jobs_of_claim",
                    "lock_waiting", "count_within", "check_payloads", "longest_payload", "release_jobs",
                    "suspects_left", "stopped_kinds",
                    "why_unreadable",
                    "may_claim",
                    "record_horizon", "record_move", "park_or_expire", "release_claims",
                    "repeat_delay", "suspend_self", "admit_self", "resume_self",
                    "holds_jobs", "begin_round", "by_circuit", "charge_probes", "circuit_of_shot", "claim_sample",
                    "claim_test_shots", "create_key_circuits", "evidence_of_opening", "failures_in", "fields_of",
                    "find_any_probes", "find_parked_probes", "find_probe", "is_in_streak", "is_let_through",
                    "is_too_many", "last_failure_in", "last_success", "latest_probes", "mark_repeats", "newest_claim",
                    "pending_probes", "probes_of_round", "ramp_time", "record_who_fails_alone", "streak_limit",
                    "common_value_among", "tally_calls", "require_read_committed", "return_test_shots",
                    "deregister_worker",
                    "without_held", "workers_with_claims", "begin_measure", "belongs_to_circuit", "kinds_of",
                    "longest_wait_behind", "measure_incident", "measure_incidents", "record_handed_back",
                    "record_incident",
                    "notice_message", "prune_incidents", "lock_circuit",
                    "is_idle", "idle_timeout", "close_idle_circuits", "return_stranded", "floor_of",
                    "release_orphans",
                    "lock_to_change", "numbers_beyond", "last_number", "highest_in_jobs", "check_sequences",
                    "new_job_number",
                    "default_max_attempts",
                    "handlers_as_of_now", "add_circuits_and_lanes", "is_registered",
                    "may_have_held_back", "next_held_back", "queues_to_claim", "delete_ended_claim", "held_back",
                    "start_horizon", "start_interval", "lock_rules", "claims_of_rule", "starts_allowed", "free_starts",
                    "choose", "keys_of_jobs", "key_starts", "record_starts", "start_times", "start_keys", "next_start",
                    "start_by_rules", "hold_back", "free_keys", "free_keys_of", "free_keys_of_runs",
                    "free_keys_of_job", "order_key_of", "claim_held_back", "take_freed", "free_held_back", "end_halts",
                    "pause_rates", "free_forgotten_keys", "return_to_lanes", "hold_back_for_shares", "hold_back_lanes",
                    "next_of_shares", "end_turns", "share_portion", "lock_lanes", "lock_changes_of_rules",
                    "brings_rules",
                    "is_ordered", "return_probes", "rules_of", "refresh_rules", "check_limit", "parse_path",
                    "rule_settings", "write_rule",
                    "delete_rows_of_rule", "delete_rule", "write_key_limit", "delete_key_limit", "lock_lanes_of_limit",
                    "key_limit_changed", "endpoint_limit", "apply_endpoint_limits", "free_first_keys", "adapt",
                    "adapt_limits",
                    "record_adaptation",
                    "configured_rule", "configure_rules", "seconds_in_words",
                    "read_cron", "cron_list", "cron_item", "cron_value", "refuse_cron", "check_schedule", "settings_of",
                    "set_settings_of",
                    "put_schedule", "lock_schedule", "first_of_last_slots", "due_slots", "slot_text", "slot_payload",
                    "record_slots", "run_slots", "run_schedules", "seconds_to_next_slot", "sample_schedules",
                ]
            ),
        ]
        return Dictionary(groups.flatMap { roles, names in names.map { ($0, roles) } }) { first, _ in first }
    }()

    /// The rights of a role on a relation, in the notation of the catalogue test. Nil if the relation has no entry.
    static func privileges(of role: Role, on relation: String, kind: String) -> String? {
        switch kind {
        case "r" where tables.contains(relation), "p" where tables.contains(relation),
            "v" where views.contains(relation),
            "S" where sequences.contains(relation):
            exceptions[relation]?[role] ?? (role == .admin && kind != "S" ? "select" : "")
        default: nil
        }
    }
}
