import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite(
    "On a database, worker bench",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct BenchRunTests {
    @Test("drains every job once, and leaves nothing behind", arguments: [1, 2])
    func drain(processes: Int) async throws {
        try await withTestDatabase { database in
            let ending = try await database.worker(
                "bench",
                "drain",
                "--jobs",
                "300",
                "--processes",
                "\(processes)",
                "--kinds",
                "2",
                "--queues",
                "3",
                "--priorities",
                "10",
                "--json"
            )
            #expect(ending.status == 0, "\(ending.errors)")
            let report: [String: Any] = try ending.json()
            for (figure, value) in ["added": 300, "settled": 300, "runs": 300, "left": 0, "lost": 0, "repeated": 0] {
                #expect(report[figure] as? Int == value, "\(figure) in \(ending.output)")
            }
            #expect(report["jobs_per_second"] is Double)
            for table in ["job", "dead_letter", "handler", "circuit", "tally", "lane", "claim"] {
                #expect(try await database.number("select count(*) from breakwater.\(table)") == 0, "\(table)")
            }
        }
    }

    @Test("adds jobs while others run, and stops on request with none lost")
    func feed() async throws {
        try await withTestDatabase { database in
            let ending = try await database.worker(
                "bench",
                "drain",
                "--jobs",
                "100000000",
                "--feed",
                "50",
                "--limit",
                "1s",
                "--json"
            )
            #expect(ending.status == 0, "\(ending.errors)")
            let report: [String: Any] = try ending.json()
            let added = try #require(report["added"] as? Int)
            #expect(added > 0 && added < 100_000_000)
            #expect(report["settled"] as? Int == added)
            #expect(report["lost"] as? Int == 0)
        }
    }

    @Test("measures from the commit to the start of the handler")
    func latency() async throws {
        try await withTestDatabase { database in
            let ending = try await database.worker(
                "bench",
                "latency",
                "--jobs",
                "5",
                "--interval",
                "1ms",
                "--warm-up",
                "10ms",
                "--json"
            )
            #expect(ending.status == 0, "\(ending.errors)")
            let report: [String: Any] = try ending.json()
            #expect(report["lost"] as? Int == 0)
            let commit = try #require(report["since_commit"] as? [String: Any])
            let insert = try #require(report["since_insert"] as? [String: Any])
            #expect(commit["count"] as? Int == 5)
            #expect(try #require(insert["max_ms"] as? Double) > 0)
        }
    }

    @Test("adds jobs, one by one and many at once", arguments: [1, 10])
    func enqueue(batch: Int) async throws {
        try await withTestDatabase { database in
            let ending = try await database.worker(
                "bench",
                "enqueue",
                "--clients",
                "2",
                "--batch",
                "\(batch)",
                "--duration",
                "200ms",
                "--json",
                "--leave-traces"
            )
            #expect(ending.status == 0, "\(ending.errors)")
            let report: [String: Any] = try ending.json()
            let jobs = try #require(report["jobs"] as? Int)
            #expect(jobs > 0 && jobs.isMultiple(of: batch))
            #expect(try await database.number("select count(*) from breakwater.job") == jobs)
        }
    }

    @Test("soaks with failures and jobs for later, prints CSV, draws it, and misses no job")
    func soak() async throws {
        try await withTestDatabase { database in
            try await withFile("") { path in
                let ending = try await database.worker(
                    "bench",
                    "soak",
                    "--duration",
                    "2s",
                    "--rate",
                    "100",
                    "--interval",
                    "1s",
                    "--failing",
                    "20",
                    "--scheduled",
                    "10",
                    "--svg",
                    path
                )
                #expect(ending.status == 0, "\(ending.errors)")
                let lines = ending.output.split(separator: "\n")
                #expect(lines.count == 3, "\(ending.output)")
                #expect(lines[0].hasPrefix("seconds,enqueued_per_second,"))
                let fields = lines[0].split(separator: ",").count
                #expect(lines.allSatisfy { $0.split(separator: ",").count == fields })
                #expect(ending.errors.contains("0 lost"), "\(ending.errors)")
                #expect(!ending.errors.contains(" 0 runs failed"), "\(ending.errors)")
                #expect(try String(contentsOfFile: path, encoding: .utf8).hasPrefix("<svg"))
                #expect(try await database.number("select count(*) from breakwater.job") == 0)
            }
        }
    }

    @Test("refuses a database with other jobs unless a flag allows it, and leaves those jobs alone")
    func others() async throws {
        try await withTestDatabase { database in
            try await database.query("insert into breakwater.job (kind) values ('email.send')")
            let refused = try await database.worker("bench", "drain", "--jobs", "5")
            #expect(refused.status == 1)
            #expect(refused.errors.contains("--force"), "\(refused.errors)")
            #expect(try await database.number("select count(*) from breakwater.job") == 1)
            let forced = try await database.worker("bench", "drain", "--jobs", "5", "--force")
            #expect(forced.status == 0, "\(forced.errors)")
            #expect(forced.output.contains("jobs settled"), "\(forced.output)")
            #expect(try await database.texts("select kind from breakwater.job") == ["email.send"])
        }
    }

    @Test("needs the schema, with 78")
    func noSchema() async throws {
        try await withTestDatabase(isMigrated: false) { database in
            let ending = try await database.worker("bench", "drain", "--jobs", "5")
            #expect(ending.status == 78)
            #expect(ending.errors.contains("worker migrate"))
        }
    }

    @Test("says so when the time was too short for the jobs")
    func tooShort() async throws {
        try await withTestDatabase { database in
            let ending = try await database.worker(
                "bench",
                "drain",
                "--jobs",
                "100",
                "--handler-time",
                "500ms",
                "--concurrency",
                "1",
                "--limit",
                "1ms"
            )
            #expect(ending.status == 1, "\(ending.errors)")
            #expect(ending.errors.contains("of 100 jobs were settled in time"), "\(ending.errors)")
        }
    }
}

@Suite("The command bench", .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)"))
struct BenchHelpTests {
    @Test("is the last command in the help of worker")
    func help() async throws {
        let help = try await WorkerBinary.run(["--help"]).output
        let commands = try #require(help.firstRange(of: "SUBCOMMANDS:"))
        let names = help[commands.upperBound...].matches(of: /\n  ([a-z-]+)\s/).map { String($0.1) }
        #expect(names.first == "run")
        #expect(names.last == "bench", "\(names)")
    }

    @Test("is unknown to executables that link the library")
    func notLinked() async throws {
        let ending = try await WorkerBinary.Run(["bench", "drain"], program: WorkerBinary.example).end()
        #expect(ending.status == 64, "\(ending.errors)")
    }
}
