import BreakwaterMetrics
import BreakwaterTesting
import Libpq
import Logging
import Metrics
import Testing

@testable import Breakwater

@Suite("A worker's metrics", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct WorkerMetricsTests {
    @Test("count jobs by queue, kind and outcome, with their times, batches and calls")
    func jobs() async throws {
        let registry = MetricsRegistry()
        try await withTestDatabase { database in
            try await withMetricsFactory(registry) {
                let good = HandlerRegistration(kind: "good", plugin: ClosureHandler { _, _ in .succeeded() })
                let bad = HandlerRegistration(
                    kind: "bad",
                    plugin: ClosureHandler { _, _ in .discarded(JobFailure("no", "no")) }
                )
                try await database.query(
                    """
                    insert into breakwater.job (kind, queue, ready_at)
                    select k, q, now() - interval '20 seconds'
                      from unnest(array['good', 'good', 'good', 'bad'], array['default', 'default', 'other', 'other']) t(k, q)
                    """
                )
                try await database.withWorker([good, bad], configure: { $0.queues = ["default", "other"] }) {
                    try await waitUntil("all are counted") {
                        let scrape = Scrape(registry)
                        return scrape["breakwater_jobs_total{kind=\"good\",outcome=\"succeeded\",queue=\"default\"}"]
                            == 2
                            && scrape["breakwater_jobs_total{kind=\"good\",outcome=\"succeeded\",queue=\"other\"}"] == 1
                            && scrape["breakwater_jobs_total{kind=\"bad\",outcome=\"discarded\",queue=\"other\"}"] == 1
                    }
                    try await waitUntil("slots are told") {
                        Scrape(registry)["breakwater_busy_slots{kind=\"good\"}"] == 0
                    }
                    try await waitUntil("a beat was answered") {
                        (Scrape(registry)["breakwater_call_seconds_count{call=\"beat\"}"] ?? 0) > 0
                    }
                }
            }
        }
        let scrape = Scrape(registry)
        #expect(scrape["breakwater_job_run_seconds_count{kind=\"good\",queue=\"default\"}"] == 2)
        #expect(scrape["breakwater_job_wait_seconds_count{kind=\"good\",queue=\"default\"}"] == 2)
        #expect(scrape["breakwater_job_wait_seconds_bucket{kind=\"good\",queue=\"default\",le=\"10\"}"] == 0)
        #expect(scrape["breakwater_circuit_calls_total{circuit=\"good\",effect=\"succeeded\"}"] == 3)
        #expect(scrape["breakwater_circuit_calls_total{circuit=\"bad\",effect=\"ignored\"}"] == 1)
        #expect(!scrape.text.contains("breakwater_circuit_failures_total{circuit=\"bad\""), "what counts for nothing")
        #expect(scrape["breakwater_batch_size_sum{call=\"claim\"}"] == 4)
        #expect(scrape["breakwater_batch_size_sum{call=\"settle\"}"] == 4)
        #expect(scrape["breakwater_slots"] == 200)
        #expect(scrape["breakwater_stale_results_total"] == 0)
    }

    @Test("count probes, slow calls, and the calls of a shared circuit under its name")
    func circuits() async throws {
        let registry = MetricsRegistry()
        var settings = HandlerSettings()
        settings.circuit.key = .shared("gateway")
        settings.circuit.consecutiveFailures = 1
        settings.circuit.openFor = .milliseconds(10)
        settings.circuit.successesToClose = 1
        settings.circuit.slowCall = .milliseconds(1)
        settings.circuit.slowRate = 1
        settings.circuit.minimumCalls = 1000
        settings.retry.base = .milliseconds(1)
        let handler = ClosureHandler { job, _ in
            // The call is certain to be slow.
            let end = ContinuousClock.now + .milliseconds(2)
            while .now < end {}
            return job.isProbe ? .succeeded() : .unavailable(JobFailure("down", "down"))
        }
        try await withTestDatabase { database in
            try await withMetricsFactory(registry) {
                try await database.query("insert into breakwater.job (kind) values ('k')")
                let registration = HandlerRegistration(kind: "k", plugin: handler, settings: settings)
                try await database.withWorker([registration]) {
                    try await waitUntil("a probe has succeeded") {
                        Scrape(registry)["breakwater_circuit_probes_total{circuit=\"gateway\",effect=\"succeeded\"}"]
                            == 1
                    }
                }
            }
        }
        let scrape = Scrape(registry)
        #expect(scrape["breakwater_circuit_calls_total{circuit=\"gateway\",effect=\"failed\"}"] == 1)
        #expect(scrape["breakwater_circuit_slow_calls_total{circuit=\"gateway\"}"] == 2)
        #expect(scrape["breakwater_circuit_failures_total{circuit=\"gateway\",name=\"down\"}"] == 1)
    }

    @Test("count failures by name, fifty names a circuit, and the rest as other")
    func failureNames() throws {
        let registry = MetricsRegistry()
        var names = FailureNames()
        for round in 1...2 {
            for circuit in ["a", "b"] {
                for number in 1...60 {
                    let ending = FinishedRun.Ending(outcomeClass: .failed, failure: JobFailure("f\(number)", "no"))
                    names.count(ending, of: circuit, in: registry)
                }
            }
            names.flush()
            let scrape = Scrape(registry)
            for circuit in ["a", "b"] {
                func value(_ name: String) -> Double? {
                    scrape["breakwater_circuit_failures_total{circuit=\"\(circuit)\",name=\"\(name)\"}"]
                }
                #expect((1...50).allSatisfy { value("f\($0)") == Double(round) })
                #expect((51...60).allSatisfy { value("f\($0)") == nil })
                #expect(value("other") == Double(10 * round))
            }
        }
    }

    @Test("count lost leases, stale results and reconnects")
    func losses() async throws {
        let registry = MetricsRegistry()
        try await withTestDatabase { database in
            try await withMetricsFactory(registry) {
                let gate = Gate()
                let handler = ClosureHandler { _, _ in
                    await gate.wait()
                    return .succeeded()
                }
                try await database.query("insert into breakwater.job (kind) values ('k')")
                // A pooler would hide the end of its sessions from the worker.
                let configure = { @Sendable (configuration: inout WorkerConfiguration) in
                    configuration.database = ConnectionOptions(database.directURL)
                }
                try await database.withWorker([HandlerRegistration(kind: "k", plugin: handler)], configure: configure) {
                    try await waitUntil("the job runs") {
                        try await database.number("select count(*) from breakwater.held") == 1
                    }
                    // The lease changes without the worker's knowledge.
                    try await database.query("update breakwater.job set lease = lease + 1000000000")
                    await gate.open()
                    try await waitUntil("the result was refused") {
                        Scrape(registry)["breakwater_stale_results_total"] == 1
                    }
                    try await database.query("delete from breakwater.worker")
                    try await waitUntil("the lease is lost") { Scrape(registry)["breakwater_leases_lost_total"] == 1 }
                    try await database.query(
                        """
                        select pg_terminate_backend(pid) from pg_stat_activity
                         where datname = current_database() and pid <> pg_backend_pid()
                        """
                    )
                    try await waitUntil("every connection was made again") {
                        let scrape = Scrape(registry)
                        return ["beats", "chores", "claims", "wake-ups"].allSatisfy { loop in
                            scrape["breakwater_database_reconnects_total{loop=\"\(loop)\"}"] ?? 0 >= 1
                                && scrape["breakwater_database_connected{loop=\"\(loop)\"}"] == 1
                        }
                    }
                }
            }
        }
        #expect(Scrape(registry)["breakwater_jobs_total{kind=\"k\",outcome=\"succeeded\",queue=\"default\"}"] == nil)
    }
}
