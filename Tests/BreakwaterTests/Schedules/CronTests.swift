import BreakwaterTesting
import Foundation
import Libpq
import Testing

@Suite("Cron expressions", .enabled(if: TestDatabase.isAvailable, "\(needsServer)"))
struct CronTests {
    /// The next times of an expression after a local time.
    private func times(_ database: TestDatabase, _ expression: String, after start: String, count: Int) async throws
        -> [String]
    {
        try await database.texts(
            """
            with recursive t as (
                select breakwater.next_match(breakwater.read_cron($1), $2::text::timestamp) as time, 1 as step
                union all
                select breakwater.next_match(breakwater.read_cron($1), t.time), t.step + 1 from t where t.step < $3
            )
            select to_char(t.time, 'YYYY-MM-DD HH24:MI:SS') from t
            """,
            [.text(expression), .text(start), .int4(Int32(count))]
        )
    }

    @Test("come when croniter and the calendar say so: each of the lines that scripts/cron wrote")
    func oracle() async throws {
        let file = URL(filePath: #filePath).appending(path: "../../../../scripts/cron.d/times.tsv").standardized
        let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
        #expect(lines.count == 400)
        try await withTestDatabase { database in
            for line in lines {
                let cells = line.split(separator: "\t").map(String.init)
                let found = try await times(database, cells[0], after: cells[1], count: 5)
                #expect(found == Array(cells[3...]), "\(cells[0]) after \(cells[1]), by \(cells[2])")
            }
        }
    }

    @Test(
        "mean what their dialects agree on",
        arguments: [
            ("@yearly", "0 0 1 1 *"), ("@annually", "0 0 1 1 *"), ("@monthly", "0 0 1 * *"), ("@weekly", "0 0 * * 0"),
            ("@Daily", "0 0 * * *"), ("@midnight", "0 0 * * *"), ("@hourly", "0 * * * *"),
            ("  5\t4  * * *  ", "5 4 * * *"), ("0 0 * jan,Feb SUN", "0 0 * 1,2 7"), ("0 0 ? * 1", "0 0 * * MON"),
            ("0 0 * * FRI-SUN", "0 0 * * 0,5,6"), ("0 0 * * 5-7", "0 0 * * 0,5,6"), ("0 0 * * SUN-TUE", "0 0 * * 0-2"),
            ("0 0 * * 1/2", "0 0 * * 1,3,5"), ("50/4 * * * *", "50,54,58 * * * *"), ("0 0 L-0 * *", "0 0 L * *"),
            ("0 0 * * FRIL", "0 0 * * 5L"), ("0 0 * * fri#2", "0 0 * * 5#2"), ("0 0 * * 7L", "0 0 * * 0L"),
            ("0 0 * * 7/1", "0 0 * * SUN"),
        ]
    )
    func synonyms(expression: String, other: String) async throws {
        try await withTestDatabase { database in
            let same = "select breakwater.read_cron($1) = breakwater.read_cron($2)"
            let isSame = try await database.query(same, [.text(expression), .text(other)])[0][0].bool()
            #expect(isSame)
        }
    }

    @Test("match special days by their definition")
    func specialDays() async throws {
        try await withTestDatabase { database in
            for (expression, start, expected) in [
                ("0 18 L * *", "2027-01-15", ["2027-01-31", "2027-02-28", "2027-03-31"]),
                ("0 18 L-2 * *", "2028-01-31", ["2028-02-27", "2028-03-29"]),
                // The 15th is a Saturday in May 2027 and a Sunday in August.
                ("0 18 15W 5,8 *", "2027-01-01", ["2027-05-14", "2027-08-16"]),
                // The 1st is a Saturday in May 2027: not in April.
                ("0 18 1W 5 *", "2027-01-01", ["2027-05-03"]),
                // The 28th is a Sunday and the month's last day in February 2027: not in March.
                ("0 18 28W 2 *", "2027-01-01", ["2027-02-26"]),
                ("0 18 LW * *", "2027-01-01", ["2027-01-29", "2027-02-26", "2027-03-31"]),
                ("0 18 * * 1#5", "2027-01-01", ["2027-03-29", "2027-05-31"]),
                ("0 18 * * 1L", "2027-01-01", ["2027-01-25", "2027-02-22"]),
                ("0 18 13 * 5", "2027-01-02", ["2027-01-08", "2027-01-13", "2027-01-15"]),
                ("0 18 29 2 *", "2097-01-01", ["2104-02-29"]),
                ("0 18 * 2 5#5", "2030-01-01", ["2036-02-29", "2064-02-29"]),
            ] {
                let found = try await times(database, expression, after: start, count: expected.count)
                #expect(found == expected.map { "\($0) 18:00:00" }, "\(expression)")
            }
        }
    }

    @Test(
        "that are wrong, or mean different things elsewhere, are refused with what is wrong and what to write",
        arguments: [
            ("", "has 0 fields, not 5", "such as 0 3 * * MON-FRI"),
            ("* * * *", "has 4 fields, not 5", "such as 0 3 * * MON-FRI"),
            ("0 0 3 * * *", "has 6 fields, not 5", "There are no seconds: use every, such as 10s."),
            ("@reboot", "\"@reboot\" is not known", "@hourly"),
            ("@every 5m", "\"@every 5m\" is not known", "use every"),
            ("60 * * * *", "the minute \"60\" is not 0 to 59", "a range such as 1-5"),
            ("* 24 * * *", "the hour \"24\" is not 0 to 23", ""),
            ("* * 0 * *", "the day of the month \"0\" is not 1 to 31", ""),
            ("* * * 13 *", "the month \"13\" is not 1 to 12", "a name such as FEB"),
            ("* * * * 8", "the day of the week \"8\" is not 0 to 7", "a name such as MON"),
            ("* * * * MONDAY", "the day of the week \"MONDAY\" is not 0 to 7", ""),
            ("-1 * * * *", "the minute \"-1\" is not 0 to 59", ""),
            ("1,,2 * * * *", "the minute has an empty item", "1,3"),
            ("5- * * * *", "the minute \"5-\" is not 0 to 59", ""),
            ("1-2-3 * * * *", "the minute \"1-2-3\" is not 0 to 59", ""),
            ("*/0 * * * *", "the step of the minute \"*/0\" is not a positive number", "*/5"),
            ("*/x * * * *", "the step of the minute \"*/x\" is not a positive number", ""),
            ("*/ * * * *", "the step of the minute \"*/\" is not a positive number", ""),
            ("*/90 * * * *", "the step of the minute \"*/90\" is longer than its range", "use every, such as 90m"),
            ("0 22-2 * * *", "the hour \"22-2\" goes backwards", "Write two ranges: 22-23,0-2."),
            ("0 0 * * SAT-MON", "the day of the week \"SAT-MON\" goes backwards", "Write two ranges: 6-6,0-1."),
            ("0 0 30 2 *", "matches no day of any year", ""), ("0 0 31 4,6,9,11 *", "matches no day of any year", ""),
            ("0 0 */2 * 1", "are both restricted", "1-31/2"), ("0 0 15W * 1", "are both restricted", "two schedules"),
            ("0 0 1 * 5#2", "are both restricted", "two schedules"), ("0 0 1 * */2", "are both restricted", ""),
            ("0 0 31W * *", "the day of the month before W \"31\" is not 1 to 28", ""),
            ("0 0 * * L", "the day of the week is L alone", "6L"), ("0 0 * * 5#6", "\"6\" is not 1 to 5", ""),
            ("0 0 * * 5#", "\"\" is not 1 to 5", ""), ("0 0 * * 1,5#2", "both whole weekdays and some of a month", ""),
            ("0 0 * * *; drop table x", "has 8 fields", ""), ("0 0 * * '", "is not 0 to 7", ""),
            (String(repeating: "0,", count: 300) + "0 0 * * *", "has 609 bytes", "at most 500"),
        ]
    )
    func refusals(expression: String, message: String, hint: String) async throws {
        try await withTestDatabase { database in
            let error = await postgresError {
                _ = try await database.query("select breakwater.read_cron($1)", [.text(expression)])
            }
            #expect(error?.sqlState == "22023")
            #expect(error?.message.contains(message) == true, "\(error as Any)")
            #expect(hint.isEmpty || error?.hint?.contains(hint) == true, "\(error as Any)")
        }
    }
}
