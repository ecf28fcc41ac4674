import Breakwater
import BreakwaterStdio
import BreakwaterTesting
import Foundation
import Testing

@Suite("A worker with a pool of processes") struct PoolWorkerTests {
    @Test("runs its jobs, charges a crash to its job alone, and leaves no process")
    func worker() async throws {
        try await withTestDatabase { database in
            let script = """
                import os
                from breakwater_stdio import serve
                def handle(job):
                    if job.payload == "crash": os._exit(3)
                    return job.payload
                serve(handle)
                """
            var settings = testSettings()
            settings.processes = 2
            settings.ahead = 4
            let plugin = try StdioPlugin(
                command: ["python3", "-c", script],
                environment: pythonEnvironment,
                settings: settings
            )
            var handler = HandlerSettings()
            handler.concurrency = plugin.capacity
            handler.keepResults = .seconds(3600)
            handler.retry.maxAttempts = 2
            handler.retry.base = .milliseconds(10)
            _ = try await database.query(
                """
                insert into breakwater.job (kind, payload)
                select 'score', case when i % 50 = 0 then '"crash"'::jsonb else to_jsonb(i) end
                  from generate_series(1, 500) i
                """
            )
            let registration = HandlerRegistration(kind: "score", plugin: plugin, settings: handler)
            try await database.withWorker([registration]) {
                try await waitUntil("all jobs have ended") {
                    try await database.number("select count(*) from breakwater.job") == 0
                }
                #expect(plugin.processes.count <= 2)
            }
            #expect(plugin.processes == [])
            #expect(try await database.number("select count(*) from breakwater.result") == 490)
            // Both attempts of each were charged, and no other job's.
            let dead = try await database.texts(
                "select distinct payload::text || ' ' || attempt || ' ' || (errors -> 0 ->> 'name') from breakwater.dead_letter"
            )
            #expect(dead == [#""crash" 2 exit.3"#])
            #expect(try await database.number("select count(*) from breakwater.dead_letter") == 10)
        }
    }
}
