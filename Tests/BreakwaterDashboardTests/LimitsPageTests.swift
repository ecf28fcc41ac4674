import BreakwaterTesting
import Testing

@testable import BreakwaterDashboard

@Suite("The page of limits", .enabled(if: TestDatabase.isAvailable))
struct LimitsPageTests {
    @Test("shows what each limit allows and holds back, and who set it, with names escaped")
    func limits() async throws {
        try await withSite { test in
            var bob = try await test.logIn("bob")
            #expect(await bob.get("/limits").text.contains("Nothing is limited."))
            try await test.database.query(
                """
                select breakwater.set_limit('<b>api</b>', concurrency => 5, rate => 600, per => '1 minute', key => '$.customer',
                                            reason => 'their <quota>', actor => 'ann')
                """
            )
            try await test.database.query(
                """
                insert into breakwater.flow_rule (type, name, key_path, on_dead, source)
                values ('order', 'mail', '{to}', 'halt', 'configuration')
                """
            )
            let text = await bob.get("/limits").text
            for part in [
                "&lt;b&gt;api&lt;/b&gt;", "5 at once, 10/s", "$.customer", "ann: their &lt;quota&gt;",
                "one at a time, in order",
                "$.to", "configuration",
            ] {
                #expect(text.contains(part), "\(part)")
            }
        }
    }
}
