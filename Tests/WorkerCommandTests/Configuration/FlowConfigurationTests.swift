import Breakwater
import Testing

@testable import WorkerCommand

@Suite("Flow control in a configuration")
struct FlowConfigurationTests {
    private func settings(_ keys: String) throws -> HandlerSettings {
        try load("handlers: { a: { exec: { command: [cat] }, \(keys) } }").worker.handlers[0].settings
    }

    private func problems(_ keys: String) -> [String] {
        do {
            _ = try load("handlers: { a: { exec: { command: [cat] }, \(keys) } }")
            return []
        } catch let error as ConfigurationError {
            return error.problems.map(\.description)
        } catch {
            return ["unexpected: \(error)"]
        }
    }

    @Test("has limits, an order, shares and an adaptive limit")
    func read() throws {
        let settings = try settings(
            """
            limits: [{ concurrency: 5, rate: 10/s, burst: 10 }, { key: $.customer, concurrency: 1 },
                     { name: crm, rate: 600/min, weight: $.pages }],
            order: { key: $.customer, on_dead: halt }, share: "$.tenant[0]", adapt: { min: 2, max: 200 }
            """
        )
        #expect(settings.limits.count == 3)
        #expect(settings.limits[0] == JobLimit(concurrency: 5, rate: .init(10, per: .seconds(1)), burst: 10))
        #expect(settings.limits[1] == JobLimit(concurrency: 1, key: ["customer"]))
        #expect(settings.limits[2].name == "crm" && settings.limits[2].weight == ["pages"])
        #expect(settings.limits[2].rate == .init(600, per: .seconds(60)))
        #expect(settings.order == KeyOrder(by: ["customer"], onDead: .halt))
        #expect(settings.share == ["tenant", "0"])
        #expect(settings.adapt == 2...200)
    }

    @Test("has one limit without a list, a plain path as the order, and nothing by default")
    func short() throws {
        #expect(try settings("limits: { rate: 100/15m }").limits == [JobLimit(rate: .init(100, per: .seconds(900)))])
        #expect(try settings("order: $.c").order == KeyOrder(by: ["c"]))
        let plain = try settings("timeout: 5s")
        #expect(plain.limits.isEmpty && plain.order == nil && plain.share == nil && plain.adapt == nil)
    }

    @Test(
        "is refused with the line, the key, the value and what is allowed",
        arguments: [
            ("limits: {}", "handlers.a.limits: it limits nothing; give concurrency: 5, rate: 10/s, or both"),
            (
                "limits: 5",
                "handlers.a.limits: '5' is not allowed; give a limit, such as { concurrency: 5, rate: 10/s }, or a list of limits"
            ),
            (
                "limits: { concurrency: 0 }",
                "handlers.a.limits.concurrency: '0' is not allowed; give a whole number from 1 to 1000000"
            ),
            (
                "limits: { concurrency: -1 }",
                "handlers.a.limits.concurrency: '-1' is not allowed; give a whole number from 1 to 1000000"
            ),
            ("limits: { rate: 10 }", "handlers.a.limits.rate: '10' has no time; write 10/s or 10/min"),
            (
                "limits: { rate: 10/fortnight }",
                "handlers.a.limits.rate: '10/fortnight' has no time that is known; write 10/s, 600/min, 1000/h or 5/d"
            ),
            (
                "limits: { rate: 0/s }",
                "handlers.a.limits.rate: '0/s' is not allowed; a rate is between one a year and 1000000 a second. To stop a kind, pause it"
            ),
            (
                "limits: { rate: -5/s }",
                "handlers.a.limits.rate: '-5/s' is not allowed; a rate is between one a year and 1000000 a second. To stop a kind, pause it"
            ),
            (
                "limits: { rate: 1/s, burst: 0 }",
                "handlers.a.limits.burst: '0' is not allowed; give a whole number from 1 to 1000000"
            ),
            (
                "limits: { concurrency: 1, burst: 5 }",
                "handlers.a.limits.burst: a burst is how many jobs a rate lets start at once after a pause; give a rate too"
            ),
            (
                "limits: { concurrency: 1, key: customer }",
                "handlers.a.limits.key: 'customer' is not a path; write $.customer for what stands there in the payload"
            ),
            (
                "limits: { concurency: 1, rate: 1/s }",
                "handlers.a.limits.concurency: this key is not known; did you mean 'concurrency'?"
            ),
            (
                "limits: [{ concurrency: 1 }, { rate: 1/s }]",
                "handlers.a.limits: two limits have the name 'a'; give one of them a name:, or put both into one limit"
            ),
            (
                "order: customer",
                "handlers.a.order: 'customer' is not a path; write $.customer for what stands there in the payload"
            ),
            (
                "order: { on_dead: halt }",
                "handlers.a.order: nothing says which jobs are kept in order; give key: $.customer"
            ),
            (
                "order: { key: $.c, on_dead: explode }",
                "handlers.a.order.on_dead: 'explode' is not allowed; give continue or halt"
            ),
            (
                "share: tenant",
                "handlers.a.share: 'tenant' is not a path; write $.tenant for what stands there in the payload"
            ),
            (
                "adapt: { min: 5 }",
                "handlers.a.adapt: nothing says how many jobs may run at once at most; give { min: 2, max: 200 }"
            ),
            ("adapt: { min: 50, max: 5 }", "handlers.a.adapt.min: min, 50, is above max, 5"),
            (
                "adapt: { min: 0, max: 5 }",
                "handlers.a.adapt.min: '0' is not allowed; give a whole number from 1 to 1000000"
            ),
        ]
    )
    func refused(_ keys: String, _ message: String) {
        #expect(problems(keys) == ["worker.yaml:1: " + message])
    }

    @Test("may not set a shared limit in two ways")
    func sharedLimits() {
        let text = """
            handlers:
              a: { exec: { command: [cat] }, limits: { name: crm, concurrency: 5 } }
              b: { exec: { command: [cat] }, limits: { name: crm, concurrency: 6 } }
              c: { exec: { command: [cat] }, limits: { name: crm, concurrency: 5 } }
            """
        do {
            _ = try load(text)
            Issue.record("it is accepted")
        } catch let error as ConfigurationError {
            #expect(
                error.problems.map(\.description) == [
                    "worker.yaml:3: handlers.b.limits: the limit 'crm' is set differently by 'a'; set it the same in both, or give one of them another name"
                ]
            )
        } catch {
            Issue.record("\(error)")
        }
    }
}
