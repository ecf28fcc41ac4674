import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

/// The messages about incidents, and the times at which they are due. The tests call the SQL directly.
@Suite("Notices of incidents", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct IncidentNoticeTests {
    /// A worker whose results open and close the circuit.
    private struct Site {
        let worker: HandWorker
        let database: TestDatabase

        init(_ database: TestDatabase) async throws {
            self.database = database
            worker = try await HandWorker(database) { settings in
                settings.circuit.consecutiveFailures = 3
                settings.circuit.window = .time(.seconds(30))
                settings.circuit.openFor = .seconds(10)
                settings.circuit.openCap = .seconds(10)
                settings.circuit.suspendsWorkers = false
                settings.circuit.ramp = .zero
                settings.retry.maxAttempts = 100
            }
        }

        func open(at second: Double) async throws {
            worker.setClock(second)
            try await database.insert(3)
            try await worker.settle(try await worker.claim(3), .unavailable(delay: .seconds(86_400)))
            #expect(try await database.text("select state from breakwater.circuit") == "open")
        }

        func probe(at second: Double, _ ending: FinishedRun.Ending) async throws {
            worker.setClock(second)
            try await database.insert(3)
            try await worker.settle(try await worker.claim(3), ending)
        }

        func fail(at second: Double) async throws { try await probe(at: second, .unavailable(delay: .seconds(86_400))) }

        func succeed(at second: Double) async throws {
            try await probe(at: second, .succeeded)
            #expect(try await database.text("select state from breakwater.circuit") == "closed")
        }

        /// Returns the message that is due at this time, as `id type try`, or nil if there is none.
        func due(at second: Double) async throws -> String? {
            worker.setClock(second)
            return try await worker.query(
                "select format('%s %s %s', id, type, tries) from breakwater.next_notice() where incident is not null"
            ).first.map { try $0[0].string() }
        }

        /// Reports how the last try ended. Returns true if the message is given up.
        @discardableResult
        func ended(_ type: String, tries: Int = 1, isDelivered: Bool = true) async throws -> Bool {
            try await worker.query(
                "select breakwater.notice_ended(1, $1, $2, $3)",
                [.text(type), .int4(Int32(tries)), .bool(isDelivered)]
            )[0][0].bool()
        }
    }

    private func withSite(_ body: (Site) async throws -> Void) async throws {
        try await withTestDatabase { try await body(Site($0)) }
    }

    @Test("the begin is reported when the first probes have failed, the end when the circuit has stayed closed")
    func once() async throws {
        try await withSite { site in
            try await site.open(at: 0)
            #expect(try await site.due(at: 0.5) == nil, "it may be a false alarm")
            try await site.fail(at: 1)
            #expect(try await site.due(at: 2) == "incident_1_1_began began 1")
            #expect(try await site.due(at: 3) == nil, "somebody delivers it")
            try await site.ended("began")
            #expect(try await site.due(at: 90) == nil)
            try await site.succeed(at: 100)
            #expect(try await site.due(at: 129) == nil, "not yet closed for as long as its window")
            #expect(try await site.due(at: 131) == "incident_1_2_ended ended 1")
            try await site.ended("ended")
            #expect(try await site.due(at: 1000) == nil)
            #expect(try await site.due(at: 100_000) == nil)
        }
    }

    @Test("a circuit that flaps is reported once, and its end the later the more it flaps")
    func flapping() async throws {
        try await withSite { site in
            try await site.open(at: 0)
            try await site.fail(at: 1)
            #expect(try await site.due(at: 2) != nil)
            try await site.ended("began")
            for round in 1...4 {
                let second = Double(round) * 50
                try await site.succeed(at: second)
                #expect(try await site.due(at: second + 28) == nil, "\(round)")
                try await site.open(at: second + 29)
                try await site.fail(at: second + 30)
                #expect(try await site.due(at: second + 31) == nil, "\(round)")
            }
            try await site.succeed(at: 260)
            // After five openings, the circuit has to stay closed for five windows.
            #expect(try await site.due(at: 260 + 149) == nil)
            #expect(try await site.due(at: 260 + 151) == "incident_1_2_ended ended 1")
            #expect(try await site.database.count("incident") == 1)
        }
    }

    @Test("a false alarm is not reported; an opening that is still undecided after a minute is")
    func falseAlarm() async throws {
        try await withSite { site in
            try await site.open(at: 0)
            try await site.succeed(at: 5)
            #expect(try await site.due(at: 6) == nil)
            #expect(try await site.due(at: 600) == nil)
            try await site.open(at: 1000)
            #expect(try await site.due(at: 1059) == nil)
            #expect(try await site.due(at: 1061) == "incident_2_1_began began 1")
        }
    }

    @Test("an incident that relapses after its end was reported is reported once more, as the same incident")
    func relapse() async throws {
        try await withSite { site in
            try await site.open(at: 0)
            try await site.fail(at: 1)
            #expect(try await site.due(at: 2) != nil)
            try await site.ended("began")
            try await site.succeed(at: 600)
            #expect(try await site.due(at: 640) == "incident_1_2_ended ended 1")
            try await site.ended("ended")
            try await site.open(at: 700)
            try await site.fail(at: 701)
            #expect(try await site.due(at: 759) == nil, "it has to last")
            #expect(try await site.due(at: 761) == "incident_1_3_began began 1")
            // This try fails, so the message is still due.
            try await site.ended("began", isDelivered: false)
            #expect(try await site.due(at: 767) == "incident_1_3_began began 2")
            try await site.ended("began", tries: 2)
            try await site.succeed(at: 800)
            #expect(try await site.due(at: 861) == "incident_1_4_ended ended 1")
        }
    }

    @Test("an undelivered message is tried again with the same id, later each time, and given up after an hour")
    func retries() async throws {
        try await withSite { site in
            try await site.open(at: 0)
            try await site.fail(at: 1)
            #expect(try await site.due(at: 2) == "incident_1_1_began began 1")
            #expect(try await site.ended("began", isDelivered: false) == false)
            #expect(try await site.due(at: 6) == nil)
            #expect(try await site.due(at: 8) == "incident_1_1_began began 2")
            #expect(try await site.ended("began", tries: 2, isDelivered: false) == false)
            #expect(try await site.due(at: 17) == nil)
            // The worker that tries reports nothing, and its minute ends.
            #expect(try await site.due(at: 19) == "incident_1_1_began began 3")
            #expect(try await site.due(at: 78) == nil)
            #expect(try await site.due(at: 80) == "incident_1_1_began began 4")
            // The earlier worker reports its failure too late, which changes nothing.
            #expect(try await site.ended("began", tries: 3, isDelivered: false) == false)
            #expect(try await site.due(at: 85.5) == nil)
            #expect(try await site.due(at: 3603) == "incident_1_1_began began 5")
            #expect(try await site.ended("began", tries: 5, isDelivered: false) == true)
            #expect(try await site.due(at: 3700) == nil)
            // The end of the incident is still reported.
            try await site.succeed(at: 4000)
            #expect(try await site.due(at: 4031) == "incident_1_2_ended ended 1")
        }
    }

    @Test("two workers that ask at once do not both get a message")
    func concurrent() async throws {
        try await withSite { site in
            try await site.open(at: 0)
            try await site.fail(at: 1)
            site.worker.setClock(2)
            let count = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        let connection = try await site.database.connect()
                        let found = try await site.worker.query(
                            "select count(incident) from breakwater.next_notice()",
                            on: connection
                        )[0][0].int()
                        await connection.close()
                        return found
                    }
                }
                return try await group.reduce(0, +)
            }
            #expect(count == 1)
        }
    }

    @Test("a message describes the incident by names and numbers, and holds no failure's text")
    func message() async throws {
        try await withSite { site in
            try await site.open(at: 0)
            try await site.fail(at: 1)
            try await site.worker.maintain()
            site.worker.setClock(20)
            try await site.worker.maintain()
            try await site.succeed(at: 100)
            site.worker.setClock(110)
            try await site.worker.maintain()
            let ended = try await site.worker.query("select breakwater.notice_message(1, 'ended')::text")[0][0].string()
            let message = try #require(try JSONSerialization.jsonObject(with: Data(ended.utf8)) as? [String: Any])
            #expect(message["type"] as? String == "incident.ended")
            let data = try #require(message["data"] as? [String: Any])
            #expect(data["circuit"] as? String == "k")
            #expect(data["cause"] as? String == "3 failures in a row")
            let failures = try #require(data["failures"] as? [[String: Any]])
            #expect(
                failures.count == 1 && failures[0]["name"] as? String == "down" && failures[0]["count"] as? Int == 3
            )
            for (key, value) in [
                "seconds": 100, "seconds_open": 100, "openings": 1, "attempts_spent": 3, "handed_back": 3,
                "dead_letters": 0,
            ] {
                #expect(data[key] as? Int == value, "\(key)")
            }
            #expect(!ended.contains("it is down"))
            let began = try await site.worker.query("select breakwater.notice_message(1, 'began')::text")[0][0].string()
            #expect(began.contains("incident.began") && !began.contains("ended_at"))
        }
    }
}
