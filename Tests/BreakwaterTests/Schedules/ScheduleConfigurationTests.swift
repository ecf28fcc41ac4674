import BreakwaterTesting
import Libpq
import Testing

@testable import Breakwater

@Suite("Schedules of a configuration", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct ScheduleConfigurationTests {
    /// Sets schedules as a starting worker does.
    private func start(_ name: String, _ list: [Schedule], _ schedules: Schedules) async throws {
        try await schedules.database.connection.call(SetSchedules(worker: name, schedules: list))
    }

    @Test("belong to the configuration that names them; one that lacks a schedule does not remove it")
    func ownership() async throws {
        try await withSchedules { schedules in
            var nightly = Schedule(name: "nightly", .cron("0 3 * * *"), kind: "report")
            nightly.timeZone = "Europe/Berlin"
            nightly.payload = "{\"a\": [1, \"é\"]}"
            nightly.uniqueKey = "u"
            nightly.missed = .all
            nightly.missedAfter = .milliseconds(1500)
            nightly.missedLimit = 7
            nightly.overlap = .skip
            nightly.queue = "q"
            nightly.priority = 3
            try await start("web-1", [nightly, Schedule(name: "ping", .every(.seconds(90)), kind: "ping")], schedules)
            try await schedules.set(at: "12:00:00", "'by hand', every => '1s', kind => 'k'")
            let settings = try await schedules.value(
                """
                concat_ws('|', cron, time_zone, kind, queue, payload, priority, unique_key, missed, missed_after,
                          missed_limit, overlap, set_by, configured_by)
                """,
                of: "nightly"
            )
            #expect(
                settings == "0 3 * * *|Europe/Berlin|report|q|{\"a\": [1, \"é\"]}|3|u|all|00:00:01.5|7|skip|web-1|web-1"
            )
            #expect(try await schedules.value("every", of: "ping") == "00:01:30")

            // Another deployment, then the first again after a user changed one of its schedules.
            try await start("app-1", [Schedule(name: "other", .every(.seconds(5)), kind: "o")], schedules)
            try await schedules.set(at: "12:00:00", "'ping', every => '10s', kind => 'ping', actor => 'ann'")
            try await start("web-2", [nightly, Schedule(name: "ping", .every(.seconds(90)), kind: "ping")], schedules)
            #expect(
                try await schedules.database.texts("select name from breakwater.schedule order by name") == [
                    "by hand", "nightly", "other", "ping",
                ]
            )
            #expect(try await schedules.value("every || ' ' || set_by", of: "ping") == "00:01:30 web-2")
            #expect(try await schedules.value("set_by || ' ' || configured_by", of: "nightly") == "web-1 web-2")
            let set = try await schedules.audit().filter { $0.contains("|schedule.set|") }
            #expect(set.count == 6, "nightly, ping, by hand, other, ping by ann, ping by web-2: \(set)")
        }
    }

    @Test("that a configuration sets wrongly are refused with their place in it, and the worker does not start")
    func wrongConfiguration() async throws {
        try await withSchedules { schedules in
            let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
            var configuration = WorkerConfiguration(database: schedules.database.options, handlers: [handler])
            configuration.schedules = [
                Schedule(name: "good", .every(.seconds(5)), kind: "k"),
                Schedule(name: "bad", .cron("0 3 * *"), kind: "k"),
            ]
            let log = RecordedLog()
            let error = await postgresError {
                try await Worker(configuration: configuration, logger: log.logger()).run()
            }
            #expect(error?.message == "schedules.bad: the cron expression \"0 3 * *\" has 4 fields, not 5")
            let left = try await schedules.database.number(
                "select (select count(*) from breakwater.schedule) + (select count(*) from breakwater.worker)"
            )
            #expect(left == 0)
        }
    }

    @Test("with invalid settings in Swift are refused with each fault")
    func validation() throws {
        let handler = HandlerRegistration(kind: "k", plugin: ClosureHandler { _, _ in .succeeded() })
        var configuration = WorkerConfiguration(database: .init(""), handlers: [handler])
        var bad = Schedule(name: "s", .every(.milliseconds(1500)), kind: "")
        bad.priority = 10
        bad.missedAfter = .zero
        bad.missedLimit = 0
        bad.uniqueKey = ""
        bad.queue = ""
        bad.payload = "[]"
        configuration.schedules = [
            bad, Schedule(name: "s", .every(.zero), kind: "k"), Schedule(name: "", .cron(""), kind: "k"),
        ]
        let error = #expect(throws: BreakwaterError.self) { try configuration.validate() }
        for fault in [
            "a schedule is given twice", "schedules.s.kind is ''", "schedules.s.queue is ''", "must be whole seconds",
            "schedules.s.priority is 10; it must be 0 to 9",
            "schedules.s.missed_after is 0.0 seconds; it must be 1s to 3650d",
            "schedules.s.missed_limit is 0; it must be 1 to 1000", "schedules.s.unique_key must have 1 to 500 bytes",
            "schedules.s.payload is not a JSON object", "schedules.s.every is 0.0 seconds",
            "the schedule '' must have a name of 1 to 200 bytes",
        ] {
            #expect(error?.message.contains(fault) == true, "\(fault) in \(error?.message ?? "")")
        }
    }
}
