import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import Breakwater

/// Incidents, which join the openings of a circuit. The tests call the SQL directly.
@Suite("Incidents", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct IncidentTests {
    private func worker(
        _ database: TestDatabase,
        _ kinds: [String] = ["k"],
        _ configure: (inout HandlerSettings) -> Void = { _ in }
    ) async throws -> HandWorker {
        let worker = try await HandWorker(database, kinds) { settings in
            settings.circuit.consecutiveFailures = 3
            settings.circuit.failureRate = nil
            settings.circuit.window = .time(.seconds(60))
            settings.circuit.openFor = .seconds(10)
            settings.circuit.suspendsWorkers = false
            settings.circuit.ramp = .zero
            settings.retry.maxAttempts = 100
            configure(&settings)
        }
        worker.setClock(0)
        return worker
    }

    private func incident(_ worker: HandWorker, _ expression: String, id: Int? = nil) async throws -> String {
        let which = id.map { "\($0)" } ?? "(select max(id) from breakwater.incident)"
        return try await worker.query(
            "select coalesce((\(expression))::text, 'null') from breakwater.incident where id = \(which)"
        )[0][0].string()
    }

    /// Settles failures at this time, which open the circuit. Three are enough, except after false alarms.
    private func open(_ worker: HandWorker, _ database: TestDatabase, at second: Double, failures: Int = 3) async throws
    {
        worker.setClock(second)
        try await database.insert(failures)
        try await worker.settle(try await worker.claim(failures), .unavailable(delay: .seconds(86_400)))
        #expect(try await database.text("select state from breakwater.circuit where kind = 'k' and key = ''") == "open")
    }

    /// Lets three probes end in this way at this time.
    private func probe(_ worker: HandWorker, _ database: TestDatabase, at second: Double, _ ending: FinishedRun.Ending)
        async throws
    {
        worker.setClock(second)
        try await database.insert(3)
        let probes = try await worker.claim(3)
        #expect(probes.count == 3 && probes.allSatisfy(\.isProbe))
        try await worker.settle(probes, ending)
    }

    @Test("one row holds the cause, the length and the cost of the incident")
    func wholeIncident() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            worker.setClock(300)
            try await database.insert(600)
            try await worker.settle(try await worker.claim(600))
            try await open(worker, database, at: 600)
            #expect(try await database.count("incident_measure") == 0, "a settle counts nothing")
            try await database.insert(20)
            worker.setClock(600.5)
            try await worker.maintain()
            try await probe(worker, database, at: 601, .unavailable(delay: .seconds(86_400)))
            worker.setClock(602)
            try await worker.maintain()
            #expect(try await incident(worker, "handed_back") == "3")
            #expect(try await incident(worker, "ended_at is null and not is_false_alarm and not is_counted") == "true")
            // Two jobs died within the incident, one before it and one after it.
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, enqueued_at, died_at)
                select 1000 + n, 'default', 'k', 5, '{}', 'exhausted', 1, now(),
                       '2030-01-01'::timestamptz + make_interval(secs => (array[599, 600, 650, 701])[n])
                  from generate_series(1, 4) n
                """
            )
            worker.setClock(620)
            try await worker.maintain()
            #expect(try await incident(worker, "dead_letters") == "1", "counted as far as time has come")
            try await probe(worker, database, at: 700, .succeeded)
            worker.setClock(703)
            try await worker.maintain()
            #expect(try await incident(worker, "is_counted") == "false", "what was settled last may not be visible yet")
            worker.setClock(709)
            try await worker.maintain()

            #expect(try await database.count("incident") == 1)
            let whole = """
                format('%s: %s (%s) by %s, %s, openings %s, %s to %s, %s, open %s', circuit, cause, \
                evidence #>> '{failures,0,name}', coalesce(actor, 'nobody'), end_reason, openings, \
                extract(epoch from began_at - '2030-01-01')::int, extract(epoch from ended_at - '2030-01-01')::int, \
                extract(epoch from duration)::int, extract(epoch from time_open)::int)
                """
            #expect(
                try await incident(worker, whole)
                    == "k: 3 failures in a row (down) by nobody, 3 probes succeeded, openings 1, 600 to 700, 100, open 100"
            )
            #expect(try await incident(worker, "is_counted and not is_false_alarm") == "true")
            // The three jobs that opened the circuit spent attempts. Those of the three probes after them were handed
            // back.
            #expect(try await incident(worker, "format('%s %s', attempts_spent, handed_back)") == "3 3")
            #expect(try await incident(worker, "format('%s %s', dead_letters, dead_letters_left)") == "2 2")
            #expect(try await incident(worker, "format('%s %s', waiting_at_begin, most_waiting)") == "20 20")
            #expect(try await incident(worker, "waiting_at_end") == "20")
            // The jobs were inserted now, but the circuit's clock stands in 2030.
            #expect(try await incident(worker, "longest_wait > '1 day'") == "true")
            // There were 60 calls a minute before the incident, and 3 + 3 + 3 since.
            #expect(
                try await incident(worker, "format('%s %s %s', calls_a_minute_before, calls, calls_spared)")
                    == "60 9 91"
            )
            // The incident is counted only once.
            worker.setClock(760)
            try await worker.maintain()
            #expect(try await incident(worker, "format('%s %s', attempts_spent, dead_letters)") == "3 2")
        }
    }

    @Test("a false alarm is marked, and the next one soon after belongs to it")
    func falseAlarms() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await open(worker, database, at: 0)
            try await probe(worker, database, at: 1, .succeeded)
            #expect(try await incident(worker, "is_false_alarm and openings = 1 and duration = '1 s'") == "true")
            // This opening is within the window, so it belongs to the same incident.
            try await open(worker, database, at: 40, failures: 6)
            #expect(try await incident(worker, "not is_false_alarm and openings = 2 and ended_at is null") == "true")
            try await probe(worker, database, at: 41, .succeeded)
            #expect(try await incident(worker, "is_false_alarm and time_open = '2 s' and duration = '41 s'") == "true")
            // The third opening is a real outage.
            try await open(worker, database, at: 80, failures: 12)
            try await probe(worker, database, at: 81, .unavailable(delay: .seconds(86_400)))
            try await probe(worker, database, at: 100, .succeeded)
            #expect(
                try await incident(worker, "not is_false_alarm and openings = 3 and ended_at is not null") == "true"
            )
            #expect(try await database.count("incident") == 1)
            // This opening comes later than the window allows, and later than the time for which the circuit was open.
            try await open(worker, database, at: 300)
            #expect(try await database.count("incident") == 2)
            #expect(try await incident(worker, "openings") == "1")
        }
    }

    @Test("a relapse continues the last incident, for an hour at the most")
    func relapse() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await open(worker, database, at: 0)
            try await probe(worker, database, at: 1, .unavailable(delay: .seconds(86_400)))
            try await probe(worker, database, at: 4 * 3600, .succeeded)
            // The circuit was open for four hours. Half an hour later it opens again.
            try await open(worker, database, at: 4.5 * 3600)
            #expect(try await incident(worker, "openings = 2 and ended_at is null and end_reason is null") == "true")
            try await probe(worker, database, at: 4.5 * 3600 + 1, .unavailable(delay: .seconds(86_400)))
            try await probe(worker, database, at: 5 * 3600, .succeeded)
            #expect(try await incident(worker, "time_open = '4.5 hours' and duration = '5 hours'") == "true")
            // This is still a relapse by the rules for open times, but no user would call it the same incident.
            try await open(worker, database, at: 6.5 * 3600)
            #expect(try await database.count("incident") == 2)
        }
    }

    @Test("a user's opening is an incident until a user closes or resets the circuit")
    func byHand() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            try await worker.query("select breakwater.reset_circuit('k', 'nothing', 'ann')")
            #expect(try await database.count("incident") == 0)
            try await worker.query("select breakwater.open_circuit('k', 'asked to stop', null, 'ann')")
            worker.setClock(5)
            try await worker.query("select breakwater.open_circuit('k', 'once more', null, 'bob')")
            let told = "format('%s %s %s %s', cause, actor, openings, coalesce(ended_at::text, 'goes on'))"
            #expect(try await incident(worker, told) == "asked to stop ann 1 goes on")
            worker.setClock(65)
            try await worker.query("select breakwater.reset_circuit('k', 'all well', 'bob')")
            #expect(try await incident(worker, "duration = '65 s' and end_reason = 'all well'") == "true")
            #expect(try await incident(worker, "is_false_alarm") == "false")
            #expect(try await database.count("incident") == 1)
        }
    }

    @Test("an incident of a key has the dead letters of that key alone; a shared one those of all its kinds")
    func deadLetters() async throws {
        try await withTestDatabase { database in
            let keyed = try await worker(database) { $0.circuit.key = .path(["host"]) }
            let shared = try await worker(database, ["a", "b"]) { $0.circuit.key = .shared("crm") }
            try await database.query(
                """
                insert into breakwater.circuit (kind, key) values ('k', 'h1') on conflict do nothing
                """
            )
            for worker in [keyed, shared] { worker.setClock(100) }
            try await keyed.query("select breakwater.open_circuit('k', 'down', null, 'ann', 'h1')")
            try await shared.query("select breakwater.open_circuit('*', 'down', null, 'ann', 'crm')")
            try await database.query(
                """
                insert into breakwater.dead_letter (id, queue, kind, priority, payload, reason, attempt, enqueued_at, died_at)
                select n, 'default', (array['k', 'k', 'a', 'b', 'c'])[n], 5,
                       jsonb_build_object('host', case when n = 2 then 'h2' else 'h1' end), 'exhausted', 1, now(),
                       '2030-01-01 00:02:00'
                  from generate_series(1, 5) n
                """
            )
            func letters(_ kind: String) async throws -> [Int64] {
                try await database.numbers(
                    """
                    select d.id from breakwater.incident i cross join lateral breakwater.dead_letters_of_incident(i.id) d
                     where i.kind = '\(kind)' order by d.id
                    """
                )
            }
            #expect(try await letters("k") == [1])
            #expect(try await letters("*") == [3, 4])
            let back = try await database.query(
                """
                select r.done from breakwater.incident i
                 cross join lateral breakwater.redrive_some(null, null, null, null, null, 10, 'why', 'ann', null, i.id) r
                 where i.kind = 'k'
                """
            )
            #expect(try back[0][0].int() == 1)
            #expect(try await database.numbers("select id from breakwater.dead_letter order by id") == [2, 3, 4, 5])
            let line = try await database.text(
                "select format('%s %s', target, details ->> 'incident') from breakwater.audit where action = 'dead_letter.redrive'"
            )
            #expect(line == "incident 1 1")
        }
    }

    @Test("incidents are kept for a year after their end")
    func pruning() async throws {
        try await withTestDatabase { database in
            let worker = try await worker(database)
            let rows = """
                insert into breakwater.circuit_incident (kind, key, began_at, ended_at, opened_at, cause)
                select 'k', '', now() - interval '3 years', e, now() - interval '3 years', 'x'
                  from unnest(array[now() - interval '366 days', now() - interval '364 days', 'infinity']) e
                """
            let measures = """
                insert into breakwater.incident_measure (incident, measured_at, counted_to, calls_before)
                select id, now(), now(), 0 from breakwater.circuit_incident
                """
            let notices = """
                insert into breakwater.incident_notice (incident, next_try) select id, now() from breakwater.circuit_incident
                """
            for statement in [rows, measures, notices] { try await database.query(statement) }
            try await worker.maintain()
            #expect(try await database.numbers("select id from breakwater.circuit_incident order by id") == [2, 3])
            #expect(
                try await database.numbers("select incident from breakwater.incident_measure order by 1") == [2, 3]
            )
            #expect(try await database.numbers("select incident from breakwater.incident_notice order by 1") == [2, 3])
        }
    }
}
