import BreakwaterTesting
import Libpq
import Testing

@testable import BreakwaterDashboard

@Suite("The page of endpoints", .enabled(if: TestDatabase.isAvailable))
struct EndpointPageTests {
    @Test("shows endpoints without their secrets, and disables and enables them")
    func page() async throws {
        try await withSite { test in
            let database = test.database
            try await database.query(
                "select breakwater.set_endpoint('ac<me>', 'https://a.example/in?token=s3cr3t', "
                    + "array['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'], '{\"Authorization\": \"Bearer s3cr3t\"}')"
            )
            try await database.query("select breakwater.set_endpoint('other', 'https://b.example/')")
            try await database.query(
                "select breakwater.record_endpoint_calls('[{\"kind\": \"k\", \"name\": \"other\", \"failure\": \"http.500: <no>\"}]')"
            )
            var ann = try await test.logIn("ann")
            let page = await ann.get("/endpoints").text
            #expect(page.contains("ac&lt;me&gt;") && page.contains("https://a.example/in") && page.contains("Failing"))
            #expect(page.contains("http.500: &lt;no&gt;"))
            #expect(!page.contains("s3cr3t") && !page.contains("whsec_"))
            #expect(await !ann.get("/endpoints", "troubled=1").text.contains("ac&lt;me&gt;"))
            #expect(await ann.get("/endpoints", "search=nothing").text.contains("No endpoint is like this."))
            #expect(await !ann.get("/endpoints", "after=ac%3Cme%3E").text.contains("ac&lt;me&gt;"))

            #expect(await ann.post("/endpoints/disable", ["name": "ac<me>"]).status == 422)
            let disabled = await ann.post("/endpoints/disable", ["name": "ac<me>", "reason": "a move"])
            #expect(disabled.status == 303)
            #expect(
                try await database.text(
                    "select concat_ws('|', disabled_by, disabled_reason) from breakwater.endpoint where disabled_at is not null"
                )
                    == "ann|a move"
            )
            _ = await ann.post("/endpoints/enable", ["name": "ac<me>"])
            #expect(
                try await database.number("select count(*) from breakwater.endpoint where disabled_at is not null") == 0
            )
            #expect(
                try await database.text(
                    "select concat_ws('|', actor, action, target) from breakwater.audit order by id desc limit 1"
                )
                    == "ann|endpoint.enable|ac<me>"
            )
        }
    }
}
