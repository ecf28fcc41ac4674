import BreakwaterMetrics
import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

@Suite("A worker's health")
struct HealthTests {
    @Test("is reported before, during and after its work")
    func phases() {
        let health = WorkerHealth()
        #expect(health.readiness().reasons == ["starting: the worker has not registered yet"])
        #expect(health.liveness().isGood)
        health.started(lease: .seconds(30))
        #expect(health.readiness().reasons.count == 2)
        health.failed(.claims, "connection to server at \"10.0.0.7\", port 5432 failed: no role \"worker\"")
        #expect(health.readiness().reasons[0].contains("10.0.0.7"), "for the log")
        #expect(health.readiness().publicReasons == ["no database connection"], "for anybody")
        health.record(.claims, isConnected: true)
        health.record(.beats, isConnected: true)
        #expect(health.readiness().isGood)
        health.record(holdsLease: false)
        #expect(!health.readiness().isGood)
        health.record(holdsLease: true)
        health.drains()
        #expect(health.isDraining)
        #expect(health.readiness().reasons == ["draining: the worker claims no more jobs"])
        #expect(health.liveness().isGood)
    }

    @Test("is bad when a loop has been stuck for longer than anything may hold it up")
    func stuck() {
        let health = WorkerHealth()
        health.started(lease: .seconds(30))
        for loop in [WorkerMetrics.Loop.claims, .beats, .chores, .wakeUps] { health.recordIteration(of: loop) }
        #expect(health.liveness(at: .now + .seconds(60)).isGood)
        let late = health.liveness(at: .now + .seconds(100)).reasons
        #expect(late.count == 4)
        #expect(late.contains { $0.hasPrefix("the loop for claims has been stuck for 1") })
        #expect(!late.contains { $0.contains("wake-ups") })
        // A heartbeat may take half a lease.
        health.started(lease: .seconds(3600))
        #expect(health.liveness(at: .now + .seconds(100)).isGood)
    }

    @Test("reports a database with another schema version", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
    func schema() async throws {
        try await withTestDatabase { database in
            let health = WorkerHealth()
            health.started(lease: .seconds(30))
            health.record(.claims, isConnected: true)
            health.record(.beats, isConnected: true)
            await health.checkSchema(on: database.connection)
            #expect(health.readiness().isGood)
            try await database.query("alter table breakwater.schema_version rename to away")
            await health.checkSchema(on: database.connection)
            #expect(health.readiness().reasons.count == 1)
            #expect(
                health.readiness().publicReasons == ["the database's schema is not the one that this worker needs"]
            )
            try await database.query("alter table breakwater.away rename to schema_version")
            await health.checkSchema(on: database.connection)
            #expect(health.readiness().isGood)
        }
    }

    @Test(
        "is served: alive without a database, ready only with one, and not while draining",
        .enabled(if: TestDatabase.isAvailable, "\(needsServer)")
    )
    func served() async throws {
        try await withTestDatabase { database in
            let role = "worker_\(database.name)"
            try await database.query("create role \(role) login in role breakwater_worker")
            let gate = Gate()
            let handler = ClosureHandler { _, _ in
                await gate.wait()
                return .succeeded()
            }
            var configuration = WorkerConfiguration(
                // A pooler would hide the end of its sessions from the worker.
                database: ConnectionOptions(database.directURL, keywords: ["user": role]),
                handlers: [HandlerRegistration(kind: "k", plugin: handler)]
            )
            configuration.shutdownGrace = .seconds(60)
            let options = configuration
            let draining = try await withEndpoints(options, MetricsRegistry()) { port in
                let base = "http://127.0.0.1:\(port)"
                try await waitUntil("it is ready") { try await fetch("\(base)/readyz").status == 200 }
                #expect(try await fetch("\(base)/livez") == (200, "ok\n"))
                #expect(try await fetch("\(base)/").text.contains("/metrics"))
                #expect(try await fetch("\(base)/nothing").status == 404)

                try await database.query("alter role \(role) nologin")
                try await database.query(
                    "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
                    [.text(role)]
                )
                try await waitUntil("it is not ready") { try await fetch("\(base)/readyz").status == 503 }
                try await waitUntil("it says why") {
                    try await fetch("\(base)/readyz").text.contains("no database connection\n")
                }
                let told = try await fetch("\(base)/readyz").text
                for secret in [role, database.name, "127.0.0.1", "port"] {
                    #expect(!told.contains(secret), "\(told)")
                }
                #expect(try await fetch("\(base)/livez").status == 200)
                // The claim loop notices the lost connection by itself.
                try await waitUntil("the metrics say so of claims") {
                    try await fetch("\(base)/metrics").text.contains("breakwater_database_connected{loop=\"claims\"} 0")
                }

                try await database.query("alter role \(role) login")
                try await waitUntil("it is ready again") { try await fetch("\(base)/readyz").status == 200 }
                try await database.query("insert into breakwater.job (kind) values ('k')")
                try await waitUntil("the job runs") {
                    try await database.number("select count(*) from breakwater.held") == 1
                }
                // During a shutdown, the worker waits for the job and still answers requests.
                return Task {
                    var answer = (status: 0, text: "")
                    try? await waitUntil("it drains") {
                        answer = (try? await fetch("\(base)/readyz")) ?? answer
                        return answer.status == 503 && answer.text.contains("draining")
                    }
                    let live = try? await fetch("\(base)/livez").status
                    await gate.open()
                    return (answer.text, live)
                }
            }.value
            #expect(draining.0 == "draining: the worker claims no more jobs\n")
            #expect(draining.1 == 200)
            try await database.query("drop role \(role)")
        }
    }
}
