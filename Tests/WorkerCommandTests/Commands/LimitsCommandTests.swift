import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite(
    "Commands on limits",
    .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)"),
    .enabled(if: WorkerBinary.isBuilt, "\(needsBinary)")
)
struct LimitsCommandTests {
    @Test("set, list, show and remove them, for people and for programs")
    func life() async throws {
        try await withTestDatabase { database in
            #expect(try await database.worker("limits").output == "There are no limits.\n")
            let set = try await database.worker(
                "limits",
                "set",
                "crm",
                "--rate",
                "600/min",
                "--burst",
                "20",
                "--concurrency",
                "7",
                "--kind",
                "crm.update",
                "--reason",
                "their quota"
            )
            #expect(set.output == "The limit 'crm' allows 7 at once, 10/s.\n", "\(set)")
            #expect(
                set.errors.contains("It applies to no kind that a worker handles; is the name right? Else give --kind.")
            )
            let all: [[String: Any]] = try await database.worker("limits", "list", "--json").json()
            #expect(all.count == 1)
            #expect(all[0]["name"] as? String == "crm" && all[0]["rate_per_second"] as? Double == 10)
            #expect(all[0]["burst"] as? Int == 20 && all[0]["held_back"] as? Int == 0)
            let table = try await database.worker("limits").output
            #expect(table.contains("crm") && table.contains("7 at once, 10/s"), "\(table)")
            let details = try await database.worker("limits", "show", "crm").output
            #expect(details.contains("their quota") && details.contains("20"), "\(details)")
            #expect(try await database.worker("limits", "remove", "crm").output == "The limit 'crm' is removed.\n")
            let again = try await database.worker("limits", "remove", "crm")
            #expect(again.status == 1)
            #expect(again.errors.contains("there is no limit 'crm'.\nRun: worker limits list"), "\(again)")
        }
    }

    @Test("set and remove the limit of one value of a key")
    func values() async throws {
        try await withTestDatabase { database in
            let worker = { (arguments: String...) in
                try await WorkerBinary.run(["limits"] + arguments, environment: ["DATABASE_URL": database.url])
            }
            _ = try await worker("set", "crm", "--concurrency", "1", "--key", "$.tenant", "--reason", "one each")
            let set = try await worker("set", "crm", "--value", "gold", "--concurrency", "5", "--reason", "they pay")
            #expect(set.output == "The limit 'crm' of 'gold' allows 5 at once.\n", "\(set)")
            _ = try await worker("set", "crm", "--value", "free", "--rate", "2/min", "--reason", "they do not")
            let shown = try await worker("show", "crm").output
            #expect(shown.contains("limits of keys") && shown.contains("they pay"), "\(shown)")
            #expect(shown.contains("2/min") && shown.contains("they do not"), "\(shown)")
            let json: [[String: Any]] = try await worker("show", "crm", "--json").json()
            #expect((json[0]["values"] as? [[String: Any]])?.map { $0["value"] as? String } == ["free", "gold"])
            let removed = try await worker("remove", "crm", "--value", "gold")
            #expect(removed.output == "The limit 'crm' is for 'gold' what it is for others again.\n", "\(removed)")
            let again = try await worker("remove", "crm", "--value", "gold")
            #expect(again.status == 1 && again.errors.contains("has none of its own for 'gold'"), "\(again)")
            let mixed = try await worker(
                "set",
                "crm",
                "--value",
                "gold",
                "--key",
                "$.a",
                "--concurrency",
                "5",
                "--reason",
                "r"
            )
            #expect(mixed.status == 64 && mixed.errors.contains("leave out --key, --kind and --weight"), "\(mixed)")
            let none = try await worker("set", "other", "--value", "gold", "--concurrency", "5", "--reason", "r")
            #expect(none.status != 0 && none.errors.contains("there is no limit 'other' with a key"), "\(none)")
        }
    }

    @Test("refuse what is wrong with one message and a fitting status")
    func refused() async throws {
        try await withTestDatabase { database in
            let rate = try await database.worker("limits", "set", "crm", "--rate", "fast", "--reason", "r")
            #expect(rate.status == 64 && rate.errors.contains("--rate: 'fast' is not allowed"), "\(rate)")
            let nothing = try await database.worker("limits", "set", "crm", "--reason", "r")
            #expect(nothing.status != 0 && nothing.errors.contains("the limit 'crm' limits nothing"), "\(nothing)")
            let zero = try await database.worker("limits", "set", "crm", "--concurrency", "0", "--reason", "r")
            #expect(zero.errors.contains("the limit 'crm' has concurrency 0, which is not 1 to 1000000"), "\(zero)")
            let show = try await database.worker("limits", "show", "nobody")
            #expect(show.status == 1 && show.errors.contains("there is no limit 'nobody'"), "\(show)")
        }
    }

    @Test("show in the status what a limit holds back, say why a job waits, and set the weight of a tenant")
    func explained() async throws {
        try await withTestDatabase { database in
            try await database.query(
                """
                insert into breakwater.handler (kind, timeout, max_attempts, keep_results, circuit_enabled, minimum_calls,
                    open_for, open_factor, open_cap, probes, successes_to_close, ramp, suspends_workers, fallback)
                values ('mail', '1s', 3, '0', true, 5, '1s', 2, '1s', 3, 2, '1s', true, 'hold')
                """
            )
            try await database.query("select breakwater.set_limit('mail', concurrency => 1, key => '$.to')")
            try await database.query(
                """
                insert into breakwater.job (kind, run_at, rule, rule_key)
                select 'mail', 'infinity', id, 'x' from breakwater.flow_rule, generate_series(1, 3)
                """
            )
            let status = try await database.worker("status").output
            #expect(status.contains("HELD BACK BY LIMITS") && status.contains("1 at once"), "\(status)")
            #expect(
                try await database.worker("limits", "weight", "api", "gold", "3").output
                    == "The tenant 'gold' of 'api' has the weight 3.\n"
            )
            let refused = try await database.worker("limits", "weight", "api", "gold", "0")
            #expect(refused.errors.contains("the weight 0 of the tenant 'gold' is not above 0"), "\(refused)")
            #expect(
                try await database.worker("limits", "weight", "api", "gold").output
                    == "The tenant 'gold' of 'api' has the weight 1 again.\n"
            )
        }
    }
}
