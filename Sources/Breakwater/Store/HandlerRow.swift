import Foundation

/// A row of `breakwater.handler` as JSON for `jsonb_populate_recordset`, with the kind's rules in `flow`.
struct HandlerRow: Encodable {
    var kind: String
    var settings: HandlerSettings

    init(_ kind: String, _ settings: HandlerSettings) {
        self.kind = kind
        self.settings = settings
    }

    /// A column of the table, with the name that it has there.
    private struct Column: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }

        init(_ name: String) { stringValue = name }
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    func encode(to encoder: any Encoder) throws {
        var row = encoder.container(keyedBy: Column.self)
        let (retry, circuit) = (settings.retry, settings.circuit)
        func set(_ column: String, _ value: (some Encodable)?) throws {
            try row.encodeIfPresent(value, forKey: Column(column))
        }
        func set(_ column: String, interval: Duration?) throws {
            try row.encodeIfPresent(interval.map { "\($0.inSeconds) seconds" }, forKey: Column(column))
        }
        try set("kind", kind)
        try set("timeout", interval: settings.timeout)
        try set("max_attempts", retry.maxAttempts)
        try set("max_age", interval: retry.maxAge)
        try set("retry_budget", retry.budget)
        try set("keep_results", interval: settings.keepResults)
        if let history = settings.history {
            try set("writes_history", true)
            try set("history_keep", interval: history.keep)
            try set("history_payload", history.payload)
            try set("history_key", settings.historyKey)
        }
        try set("circuit_enabled", circuit.isEnabled)
        try set("failure_rate", circuit.failureRate)
        try set("slow_rate", circuit.slowCall.map { _ in circuit.slowRate })
        switch circuit.window {
        case .time(let time): try set("circuit_window", interval: time)
        case .calls(let calls): try set("window_calls", calls)
        }
        try set("minimum_calls", circuit.minimumCalls)
        try set("consecutive_failures", circuit.consecutiveFailures)
        try set("open_for", interval: circuit.openFor)
        try set("open_factor", circuit.openFactor)
        try set("open_cap", interval: circuit.openCap)
        try set("half_open_for", interval: circuit.halfOpenFor)
        try set("probes", circuit.probes)
        try set("successes_to_close", circuit.successesToClose)
        try set("ramp", interval: circuit.ramp)
        try set("suspends_workers", circuit.suspendsWorkers)
        switch circuit.key {
        case nil: break
        case .path(let path): try set("key_path", path)
        case .shared(let name): try set("shared_key", name)
        }
        let rules = FlowRule.all(of: kind, settings)
        if !rules.isEmpty { try set("flow", rules) }
        switch circuit.fallback {
        case .hold: try set("fallback", "hold")
        case .deadLetter: try set("fallback", "dead_letter")
        case .succeed(let result):
            try set("fallback", "succeed")
            try set("fallback_result", result)
        case .reroute(let kind):
            try set("fallback", "reroute")
            try set("fallback_kind", kind)
        }
    }
}
