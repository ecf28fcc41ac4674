import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite(
    "Commands on schedules",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct ScheduleCommandTests {
    @Test("set one, list it with its next five times, and show its settings and slots")
    func list() async throws {
        try await withTestDatabase { database in
            #expect(try await database.worker("schedules").output.hasPrefix("There are no schedules."))
            let set = try await database.worker(
                "schedules",
                "set",
                "nightly",
                "--cron",
                "30 3 * * *",
                "--time-zone",
                "Asia/Kathmandu",
                "--kind",
                "report.build",
                "--payload",
                "{\"a\": 1}",
                "--queue",
                "q",
                "--priority",
                "2",
                "--unique-key",
                "u",
                "--missed",
                "all",
                "--missed-after",
                "90s",
                "--missed-limit",
                "7",
                "--overlap",
                "skip",
                "--actor",
                "ann",
                "--reason",
                "a test"
            )
            #expect(set.status == 0, "\(set.errors)")
            #expect(set.output.hasPrefix("The schedule 'nightly' runs next at "), "\(set.output)")
            _ = try await database.worker("schedules", "set", "often", "--every", "90s", "--kind", "ping")
            _ = try await database.worker("schedules", "run", "often")

            let table = try await database.worker("schedules", "list").output.split(separator: "\n")
            #expect(table.count == 11, "a line for each of the next times: \(table)")
            #expect(table[1].hasPrefix("nightly") && table[1].contains("30 3 * * *") && table[1].contains(" 21:45:00Z"))
            #expect(table[2...5].allSatisfy { $0.contains(" 21:45:00Z") })
            #expect(table[6].hasPrefix("often") && table[6].contains("every 1m30s"))

            let all: [[String: Any]] = try await database.worker("schedules", "--json").json()
            #expect(all.map { $0["name"] as? String } == ["nightly", "often"])
            #expect((all[0]["next"] as? [String])?.count == 5)
            for (key, value) in [
                "cron": "30 3 * * *", "time_zone": "Asia/Kathmandu", "kind": "report.build", "queue": "q",
                "unique_key": "u", "missed": "all", "overlap": "skip", "state": "active", "set_by": "ann",
            ] { #expect(all[0][key] as? String == value, "\(key)") }
            #expect(all[0]["priority"] as? Int == 2 && all[0]["missed_limit"] as? Int == 7)
            #expect(all[0]["missed_after_seconds"] as? Double == 90 && all[1]["every_seconds"] as? Double == 90)
            #expect((all[0]["payload"] as? [String: Any])?["a"] as? Int == 1)

            let shown = try await database.worker("schedules", "show", "nightly").output
            for text in [
                "30 3 * * *, Asia/Kathmandu", "21:45:00Z (", "03:30:00 Asia/Kathmandu)",
                "all, from 1m30s on, at most 7",
            ] {
                #expect(shown.contains(text), "\(text) in \(shown)")
            }
            #expect(try await database.worker("schedules", "show", "often").output.contains("run by hand: job 1"))
            let json: [String: Any] = try await database.worker("schedules", "show", "often", "--json").json()
            #expect((json["slots"] as? [[String: Any]])?.first?["by_hand"] as? Bool == true)
        }
    }

    @Test("pause, resume, run and remove one, and record who did it")
    func changes() async throws {
        try await withTestDatabase { database in
            _ = try await database.worker("schedules", "set", "s", "--every", "1h", "--kind", "k", "--overlap", "skip")
            let paused = try await database.worker("schedules", "pause", "s", "--reason", "a move", "--actor", "ann")
            #expect(paused.output == "The schedule 's' is paused.\n")
            #expect(try await database.worker("schedules").output.contains("paused by ann since"))
            #expect(
                try await database.worker("status").output.contains("The schedule 's' is paused: paused by ann since")
            )
            let status: [String: Any] = try await database.worker("status", "--json").json()
            #expect((status["schedules_not_running"] as? [[String: Any]])?.first?["name"] as? String == "s")
            #expect(try await database.worker("schedules", "run", "s").output == "1\n")
            let again = try await database.worker("schedules", "run", "s")
            #expect(again.status == 1 && again.output.isEmpty)
            #expect(
                again.errors.contains("nothing was added: job 1 of the schedule 's' has not ended"),
                "\(again.errors)"
            )
            #expect(
                try await database.worker("schedules", "resume", "s").output.hasPrefix(
                    "The schedule 's' goes on, next at 20"
                )
            )
            let twice = try await database.worker("schedules", "resume", "s")
            #expect(twice.status == 1 && twice.errors.contains("the schedule 's' is not paused"))
            #expect(try await database.worker("schedules", "remove", "s").output == "The schedule 's' is removed.\n")
            #expect(
                try await database.texts("select action from breakwater.audit order by id")
                    == ["set", "pause", "run", "run", "resume", "remove"].map { "schedule.\($0)" }
            )
            for command in ["show", "resume", "run", "remove"] {
                let gone = try await database.worker("schedules", command, "s")
                #expect(gone.status == 1 && gone.errors.contains("there is no schedule 's'"), "\(command)")
            }
        }
    }

    @Test(
        "refuse what is wrong, with what to do",
        arguments: [
            (["--kind", "k"], "Say when: --cron \"0 3 * * *\" or --every 90s."),
            (["--kind", "k", "--cron", "* * * * *", "--every", "1s"], "a schedule has one of them"),
            (["--kind", "k", "--every", "1s", "--time-zone", "UTC"], "An interval follows UTC"),
            (["--kind", "k", "--every", "1s", "--payload", "{"], "is not JSON that Postgres can store"),
            (["--kind", "k", "--every", "1s", "--payload", "[]"], "its payload is not a JSON object"),
            (["--kind", "k", "--every", "500ms"], "every is 00:00:00.5"),
            (["--kind", "k", "--every", "1s", "--missed", "some"], "Please provide one of 'one', 'all' or 'skip'"),
            (["--kind", "k", "--cron", "0 0 3 * * *"], "There are no seconds: use every, such as 10s."),
            (["--every", "1s"], "Missing expected argument '--kind <kind>'"),
        ]
    )
    func refusals(options: [String], message: String) async throws {
        try await withTestDatabase { database in
            let ending = try await WorkerBinary.run(
                ["schedules", "set", "s"] + options,
                environment: ["DATABASE_URL": database.url]
            )
            #expect(ending.status == 64 && ending.errors.contains(message), "\(ending.errors)")
            #expect(try await database.number("select count(*) from breakwater.schedule") == 0)
        }
    }

    @Test("a worker sets the schedules of its configuration, and changes by hand are said to be undone")
    func configuration() async throws {
        let file = """
            name: box
            handlers: { k: { exec: { command: ["true"] } } }
            schedules:
              tick: { every: 1s, kind: k, payload: { a: [1, "${TOKEN:-x}"] } }
            """
        try await withTestDatabase { database in
            try await database.running(file) { _ in
                try await waitUntil("slots came, and their jobs ran") {
                    try await database.number(
                        "select count(*) from breakwater.schedule where enqueued >= 3 and last_job is not null"
                    ) == 1
                }
            }
            #expect(try await database.text("select payload ->> 'a' from breakwater.schedule") == "[1, \"x\"]")
            #expect(try await database.text("select configured_by from breakwater.schedule") == "box")
            let set = try await database.worker("schedules", "set", "tick", "--every", "5s", "--kind", "k")
            #expect(set.errors.contains("The configuration of box names this schedule"), "\(set.errors)")
        }
    }

    @Test("a worker whose configuration has a wrong cron expression does not start, and says where it is")
    func wrongCron() async throws {
        let file = """
            handlers: { k: { exec: { command: ["true"] } } }
            schedules: { nightly: { cron: "0 25 * * *", kind: k } }
            """
        try await withTestDatabase { database in
            try await withFile(file) { path in
                let ending = try await database.worker("run", "--config", path)
                #expect(ending.status == 78)
                #expect(
                    ending.errors.contains("schedules.nightly: the hour \"25\" is not 0 to 23"),
                    "\(ending.errors)"
                )
            }
        }
    }
}
