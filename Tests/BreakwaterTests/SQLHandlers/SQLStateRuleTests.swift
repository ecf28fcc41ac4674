import Breakwater
import Libpq
import Testing

@testable import BreakwaterSQL

@Suite("The outcome of a call with an error")
struct SQLStateRuleTests {
    private func outcome(
        _ state: String,
        detail: String? = nil,
        discardOn: [String] = [],
        retryOn: [String] = []
    ) throws -> String {
        let error = PostgresError(.server, "no", sqlState: state, detail: detail)
        return switch try SQLStateRules(discardOn: discardOn, retryOn: retryOn).outcome(of: error) {
        case .failed(let failure): "failed \(failure.name)"
        case .discarded(let failure): "discarded \(failure.name)"
        case .unavailable(let failure, let delay): "unavailable \(failure.name) \(delay.map { "\($0)" } ?? "-")"
        case .throttled(let failure, let delay): "throttled \(failure.name) \(delay)"
        case .snoozed(let delay): "snoozed \(delay)"
        default: "other"
        }
    }

    @Test(
        "follows its SQLSTATE",
        arguments: [
            ("40001", "failed sql.40001"), ("40P01", "failed sql.40P01"), ("55P03", "failed sql.55P03"),
            ("22P02", "discarded sql.22P02"), ("23514", "discarded sql.23514"), ("P0001", "failed sql.P0001"),
            ("42883", "failed sql.42883"), ("53200", "unavailable sql.53200 -"), ("57014", "failed timeout"),
        ]
    )
    func states(state: String, expected: String) throws {
        #expect(try outcome(state) == expected)
    }

    @Test("follows the configuration, and a SQLSTATE before its class")
    func configured() throws {
        #expect(try outcome("P0001", discardOn: ["P0"]) == "discarded sql.P0001")
        #expect(try outcome("23505", retryOn: ["23505"]) == "failed sql.23505")
        #expect(try outcome("23503", retryOn: ["23505"]) == "discarded sql.23503")
        #expect(try outcome("23505", discardOn: ["23505"], retryOn: ["23"]) == "discarded sql.23505")
        #expect(try outcome("40001", discardOn: ["40001"]) == "discarded sql.40001")
    }

    @Test(
        "is the one that the function asks for",
        arguments: [
            (#"{"outcome": "snooze", "seconds": 60}"#, "snoozed 60.0 seconds"),
            (#"{"outcome": "throttle", "seconds": 1.5}"#, "throttled sql.throttle 1.5 seconds"),
            (#"{"outcome": "throttle"}"#, "throttled sql.throttle 0.0 seconds"),
            (#"{"outcome": "unavailable", "name": "bank"}"#, "unavailable bank -"),
            (#"{"outcome": "discard"}"#, "discarded sql.discard"),
            (#"{"outcome": "snooze"}"#, "failed sql.BRKWT"),
            (#"{"outcome": "snooze", "seconds": -1}"#, "failed sql.BRKWT"),
            (#"{"outcome": "snooze", "seconds": 0}"#, "failed sql.BRKWT"),
            (#"{"outcome": "snooze", "seconds": 1e300}"#, "snoozed 315360000.0 seconds"),
            (#"{"outcome": "discard", "name": ""}"#, "failed sql.BRKWT"),
            (#"{"outcome": "discard", "name": "a\nb"}"#, "failed sql.BRKWT"),
            (#"{"outcome": "succeed"}"#, "failed sql.BRKWT"), ("60 seconds", "failed sql.BRKWT"),
        ]
    )
    func requested(detail: String, expected: String) throws {
        #expect(try outcome("BRKWT", detail: detail) == expected)
    }

    @Test("is a failure if the function asks for none")
    func missing() throws {
        #expect(try outcome("BRKWT") == "failed sql.BRKWT")
    }

    @Test(
        "refuses settings that are wrong",
        arguments: [
            (["2350"], []), (["abcde"], []), ([], [""]), ([], ["BRKWT"]), (["23"], ["23"]),
        ]
    )
    func refused(discardOn: [String], retryOn: [String]) {
        #expect(throws: SQLPluginError.self) {
            try SQLPlugin(function: "a.b", role: "r", discardOn: discardOn, retryOn: retryOn)
        }
    }

    @Test("needs a function with its schema", arguments: ["f", "a.b.c", "a.f()", "a.", ".f", "a b.f", "", "a.b\0"])
    func functions(name: String) {
        #expect(throws: SQLPluginError.self) { try SQLPlugin(function: name, role: "r") }
    }

    @Test("takes any name of a function", arguments: ["a.b", #""A b".f"#, #"a."f""g""#, "ä.f$1"])
    func names(name: String) throws {
        #expect(try SQLPlugin(function: name, role: "r").capacity == 4)
    }
}
