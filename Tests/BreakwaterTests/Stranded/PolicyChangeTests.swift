import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A policy that changes while old state remains", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct PolicyChangeTests {
    /// The changes that the next version of the handler makes to its circuit.
    enum Change: String, CaseIterable, Sendable {
        case keyDropped, keyFromElsewhere, shared, switchedOff

        func apply(to circuit: inout CircuitPolicy) {
            switch self {
            case .keyDropped: circuit.key = nil
            case .keyFromElsewhere: circuit.key = .path(["tenant"])
            case .shared: circuit.key = .shared("stripe")
            case .switchedOff: circuit.isEnabled = false
            }
        }
    }

    private func rules(_ fallback: CircuitPolicy.Fallback = .deadLetter) -> @Sendable (inout HandlerSettings) -> Void {
        { settings in
            settings.circuit.key = .path(["host"])
            settings.circuit.consecutiveFailures = 3
            settings.circuit.suspendsWorkers = false
            settings.circuit.openFor = .seconds(3600)
            settings.circuit.openCap = .seconds(3600)
            settings.circuit.probes = 2
            settings.circuit.successesToClose = 2
            settings.circuit.ramp = .zero
            settings.circuit.fallback = fallback
        }
    }

    private func insert(_ count: Int, host: String, _ database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.job (kind, payload)
            select 'k', jsonb_build_object('host', $1::text, 'tenant', 't') from generate_series(1, $2)
            """,
            [.text(host), .int4(Int32(count))]
        )
    }

    /// Opens the circuit of the key `a`, and then parks five jobs behind it.
    private func openKey(_ worker: HandWorker, _ database: TestDatabase) async throws {
        try await insert(3, host: "a", database)
        try await worker.settle(try await worker.claim(3), .failed(delay: .seconds(3600)))
        try await database.query("delete from breakwater.job where attempt > 0")
        try await worker.failFirstChecks()
        try await insert(5, host: "a", database)
        #expect(try await worker.claim().isEmpty)
        #expect(try await database.number("select count(*) from breakwater.job where parked = 'a'") == 5)
        #expect(try await database.text("select state from breakwater.circuit where key = 'a'") == "open")
    }

    @Test("no job is ended by a fallback, and parked jobs run", arguments: Change.allCases)
    func openKeyAndChange(change: Change) async throws {
        try await withTestDatabase { database in
            try await openKey(try await HandWorker(database, settings: rules(.hold)), database)
            let after = try await HandWorker(database) { settings in
                rules()(&settings)
                change.apply(to: &settings.circuit)
            }
            try await insert(5, host: "b", database)
            for _ in 1...3 { try await after.maintain() }
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await after.claim().count == 10)
            #expect(try await database.number("select count(*) from breakwater.circuit where state <> 'closed'") == 0)
        }
    }

    @Test("while the leader has not closed the old key's circuit, its fallback ends nothing")
    func fallbackFirst() async throws {
        try await withTestDatabase { database in
            try await openKey(try await HandWorker(database, settings: rules(.hold)), database)
            for change in Change.allCases {
                _ = try await HandWorker(database) { settings in
                    rules()(&settings)
                    change.apply(to: &settings.circuit)
                }
                try await database.query("select breakwater.apply_fallbacks(1000)")
                #expect(try await database.count("dead_letter") == 0, "\(change)")
            }
        }
    }

    @Test("a fallback still ends the jobs that are parked behind an open key, and no others")
    func fallbackOfKey() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: rules())
            try await openKey(worker, database)
            try await insert(5, host: "b", database)
            try await worker.maintain()
            #expect(
                try await database.texts("select payload ->> 'host' from breakwater.dead_letter")
                    == .init(repeating: "a", count: 5)
            )
            #expect(try await worker.claim().count == 5)
        }
    }

    @Test("a kind's own circuit closes when its handler shares another one")
    func ownCircuit() async throws {
        try await withTestDatabase { database in
            let before = try await HandWorker(database) { settings in
                rules()(&settings)
                settings.circuit.key = nil
            }
            try await insert(3, host: "a", database)
            try await before.settle(try await before.claim(3), .failed(delay: .seconds(3600)))
            try await before.failFirstChecks()
            let after = try await HandWorker(database) { settings in
                rules()(&settings)
                settings.circuit.key = .shared("stripe")
            }
            try await insert(5, host: "a", database)
            try await after.maintain()
            #expect(try await database.count("dead_letter") == 0)
            #expect(
                try await database.text("select reason from breakwater.circuit where kind = 'k' and key = ''")
                    == "its handler shares the circuit of 'stripe' now"
            )
            #expect(try await after.claim().count == 5)
        }
    }

    @Test("a shared circuit that no handler shares any more closes")
    func sharedDropped() async throws {
        try await withTestDatabase { database in
            let before = try await HandWorker(database) { settings in
                rules()(&settings)
                settings.circuit.key = .shared("stripe")
            }
            try await insert(3, host: "a", database)
            try await before.settle(try await before.claim(3), .failed(delay: .seconds(3600)))
            try await before.failFirstChecks()
            try await insert(5, host: "a", database)
            let after = try await HandWorker(database) { settings in
                rules()(&settings)
                settings.circuit.key = nil
            }
            try await after.maintain()
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await after.claim().count == 5)
            #expect(
                try await database.text("select reason from breakwater.circuit where kind = '*'")
                    == "no handler shares it any more"
            )
        }
    }

    @Test("one of several kinds that share a circuit switches it off for itself only")
    func sharedWithoutOne() async throws {
        try await withTestDatabase { database in
            func shared(_ settings: inout HandlerSettings) {
                rules(.hold)(&settings)
                settings.circuit.key = .shared("stripe")
            }
            let worker = try await HandWorker(database, ["a", "b"], settings: shared)
            _ = try await HandWorker(database, ["a"]) { settings in
                shared(&settings)
                settings.circuit.isEnabled = false
            }
            try await database.insert(3, kind: "b")
            try await worker.settle(try await worker.claim(3), .failed(delay: .seconds(3600)))
            try await worker.maintain()
            #expect(try await database.text("select state from breakwater.circuit where kind = '*'") != "closed")
        }
    }

    @Test("a handler that no worker has any more does not decide about a shared circuit")
    func sharedWithGone() async throws {
        try await withTestDatabase { database in
            let gone = try await HandWorker(database, ["a"]) { settings in
                rules(.hold)(&settings)
                settings.circuit.key = .shared("stripe")
                settings.circuit.consecutiveFailures = 1000
                settings.circuit.failureRate = nil
            }
            _ = try await gone.call(Leave(worker: gone.id))
            let worker = try await HandWorker(database, ["b"]) { settings in
                rules(.hold)(&settings)
                settings.circuit.key = .shared("stripe")
            }
            try await database.insert(3, kind: "b")
            try await worker.settle(try await worker.claim(3), .failed(delay: .seconds(3600)))
            #expect(try await database.text("select state from breakwater.circuit where kind = '*'") == "open")
        }
    }

    @Test("the fallback of a handler that no worker has any more ends nothing")
    func handlerRemoved() async throws {
        try await withTestDatabase { database in
            let before = try await HandWorker(database, settings: rules(.hold))
            try await openKey(before, database)
            try await database.query("update breakwater.handler set fallback = 'dead_letter'")
            _ = try await before.call(Leave(worker: before.id))
            let other = try await HandWorker(database, ["other"])
            try await other.maintain()
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await database.count("job") == 5)
            #expect(
                try await database.texts("select distinct state from breakwater.job_status") == ["circuit_open"]
            )
            // When the circuit is half-open, the jobs wait only for a worker that handles them.
            try await database.query("update breakwater.circuit set state = 'half_open' where key = 'a'")
            #expect(try await database.texts("select distinct state from breakwater.job_status") == ["no_handler"])
        }
    }

    @Test("a fallback that is new while the circuit is half-open ends nothing until it opens again")
    func whileHalfOpen() async throws {
        try await withTestDatabase { database in
            func plain(_ fallback: CircuitPolicy.Fallback) -> @Sendable (inout HandlerSettings) -> Void {
                { settings in
                    rules(fallback)(&settings)
                    settings.circuit.key = nil
                }
            }
            let before = try await HandWorker(database, settings: plain(.hold))
            try await insert(3, host: "a", database)
            try await before.settle(try await before.claim(3), .failed(delay: .seconds(3600)))
            try await before.failFirstChecks()
            try await insert(5, host: "a", database)
            try await database.query("update breakwater.circuit set state = 'half_open', generation = generation + 1")
            let after = try await HandWorker(database, settings: plain(.deadLetter))
            try await after.maintain()
            #expect(try await database.count("dead_letter") == 0)
            let probes = try await after.claim()
            #expect(probes.count == 2)
            try await after.settle(probes)
            try await after.maintain()
            #expect(try await database.count("dead_letter") == 0)
            #expect(try await after.claim().count == 3)
        }
    }

    @Test("a circuit that closes while the leader applies its fallback loses no job")
    func closesMeanwhile() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database) { settings in
                rules()(&settings)
                settings.circuit.key = nil
            }
            try await insert(3, host: "a", database)
            try await worker.settle(try await worker.claim(3), .failed(delay: .seconds(3600)))
            try await worker.failFirstChecks()
            try await insert(5, host: "a", database)
            let closing = try await database.connectDirectly()
            _ = try await closing.query("begin")
            _ = try await closing.query("select breakwater.close_circuit('k', 'it is well')")
            // Other sessions still see the circuit open, until this transaction commits.
            try await database.query("select breakwater.apply_fallbacks(1000)")
            #expect(try await database.count("dead_letter") == 0)
            _ = try await closing.query("commit")
            try await worker.maintain()
            #expect(try await database.count("dead_letter") == 0)
        }
    }
}
