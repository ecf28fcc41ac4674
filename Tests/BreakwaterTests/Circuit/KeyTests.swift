import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("A circuit for each key", .enabled(if: TestDatabase.isAvailable, Comment(rawValue: needsServer)))
struct KeyTests {
    /// Makes three failures in a row open a key's circuit, for a minute.
    private func keyed(_ settings: inout HandlerSettings) {
        settings.circuit.key = .path(["host"])
        settings.circuit.consecutiveFailures = 3
        settings.circuit.suspendsWorkers = false
        settings.circuit.openFor = .seconds(60)
        settings.circuit.probes = 2
        settings.circuit.successesToClose = 2
        settings.circuit.ramp = .zero
        settings.retry.maxAttempts = 1000
    }

    private func insert(_ count: Int, host: String, into database: TestDatabase) async throws {
        try await database.query(
            """
            insert into breakwater.job (kind, payload)
            select 'k', jsonb_build_object('host', $1::text, 'n', n) from generate_series(1, $2) n
            """,
            [.text(host), .int4(Int32(count))]
        )
    }

    /// Opens the circuit of a key with three jobs that fail and are then deleted.
    private func open(_ host: String, with worker: HandWorker, in database: TestDatabase) async throws {
        try await insert(3, host: host, into: database)
        let jobs = try await worker.claim(3)
        try await worker.settle(jobs, .failed(delay: .seconds(3600)))
        try await database.query("delete from breakwater.job where attempt > 0")
        let state = try await database.query(
            "select state from breakwater.circuit where kind = 'k' and key = $1",
            [.text(host)]
        )
        #expect(try state[0][0].string() == "open")
        try await worker.failFirstChecks()
    }

    @Test("stops that key's jobs only, out of the lane and unspent")
    func stopsOneKey() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keyed)
            worker.setClock(0)
            try await open("broken", with: worker, in: database)

            try await insert(700, host: "broken", into: database)
            try await insert(5, host: "fine", into: database)
            let jobs = try await worker.claim(10)
            #expect(jobs.count == 5)
            #expect(jobs.allSatisfy { $0.circuitKey == "fine" })
            #expect(try await database.number("select count(*) from breakwater.job where parked = 'broken'") == 700)
            #expect(try await database.number("select sum(attempt) from breakwater.job where parked = 'broken'") == 0)
            let why = try await database.query("select distinct state from breakwater.job_status where worker is null")
            #expect(try why[0][0].string() == "circuit_open")
            #expect(
                try await database.number("select waiting from breakwater.circuit_status where key = 'broken'") == 700
            )
        }
    }

    @Test("takes its probes from the parked jobs, and brings the rest back in order when it closes")
    func comesBack() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keyed)
            worker.setClock(0)
            try await open("broken", with: worker, in: database)
            try await insert(50, host: "broken", into: database)
            #expect(try await worker.claim(10).isEmpty)

            worker.setClock(61)
            let probes = try await worker.claim(10)
            #expect(probes.count == 2)
            #expect(probes.allSatisfy { $0.isProbe })
            #expect(try await worker.claim(10).isEmpty)
            try await worker.settle(probes)
            let state = try await database.query("select state from breakwater.circuit where key = 'broken'")
            #expect(try state[0][0].string() == "closed")

            try await worker.maintain()
            #expect(try await database.number("select count(*) from breakwater.job where parked is not null") == 0)
            let rest = try await worker.claim(100)
            #expect(rest.count == 48)
            #expect(rest.map(\.id) == rest.map(\.id).sorted())
        }
    }

    @Test("a failed probe re-opens the key's circuit, and its jobs stay parked")
    func reopens() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keyed)
            worker.setClock(0)
            try await open("broken", with: worker, in: database)
            try await insert(10, host: "broken", into: database)
            #expect(try await worker.claim(10).isEmpty)
            worker.setClock(61)
            let probes = try await worker.claim(2)
            try await worker.settle(probes, .unavailable(delay: .seconds(1)))
            #expect(try await database.number("select reopened from breakwater.circuit where key = 'broken'") == 1)
            // The probe's attempt was handed back.
            #expect(try await database.number("select sum(attempt) from breakwater.job") == 0)
            #expect(try await worker.claim(10).isEmpty)
        }
    }

    @Test("a healthy key has no circuit, and a kind at most a thousand")
    func isBounded() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keyed)
            try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'k', jsonb_build_object('host', 'h' || n) from generate_series(1, 1100) n
                """
            )
            try await worker.settle(try await worker.claim(20))
            #expect(try await database.number("select count(*) from breakwater.circuit where key <> ''") == 0)
            try await worker.settle(try await worker.claim(2000), .failed(delay: .seconds(60)))
            #expect(try await database.number("select count(*) from breakwater.circuit where key <> ''") == 1000)
        }
    }

    @Test("a key too long for a name is known by its digest")
    func longKeys() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, settings: keyed)
            try await insert(1, host: String(repeating: "x", count: 5000), into: database)
            let jobs = try await worker.claim(1)
            #expect(jobs.first?.circuitKey.hasPrefix("md5:") == true)
            try await worker.settle(jobs, .failed())
            #expect(try await database.number("select count(*) from breakwater.circuit where key like 'md5:%'") == 1)
        }
    }

    @Test("a shared key gives several kinds one circuit")
    func sharedKey() async throws {
        try await withTestDatabase { database in
            let worker = try await HandWorker(database, ["a", "b"]) { settings in
                settings.circuit.key = .shared("stripe")
                settings.circuit.consecutiveFailures = 3
                settings.circuit.suspendsWorkers = false
            }
            try await database.insert(3, kind: "a")
            try await worker.settle(try await worker.claim(3), .failed(delay: .seconds(60)))
            let circuit = try await database.query("select kind, state from breakwater.circuit where key = 'stripe'")
            #expect(try circuit[0][0].string() == "*")
            #expect(try circuit[0][1].string() == "open")
            try await worker.failFirstChecks()
            try await database.insert(5, kind: "b")
            #expect(try await worker.claim(5).isEmpty)
            try await database.query("select breakwater.reset_circuit('*', 'test', key => 'stripe')")
            #expect(try await worker.claim(5).count == 5)
        }
    }
}
