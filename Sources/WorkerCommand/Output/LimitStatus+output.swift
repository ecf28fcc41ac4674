import BreakwaterAdmin

extension LimitStatus {
    /// A table for people.
    static func table(_ limits: [LimitStatus]) -> Table {
        Table(
            columns: [
                .long("NAME"), .text("TYPE"), .long("KINDS"), .text("KEY", isOptional: true), .text("ALLOWS"),
                .number("RUNNING"), .number("HELD BACK"), .text("SET BY"),
            ],
            rows: limits.map { limit in
                [
                    limit.name, limit.type, limit.kinds.joined(separator: ", "), limit.key ?? "", limit.allows,
                    "\(limit.running)", limit.heldBackText, limit.sourceText,
                ]
            }
        )
    }

    private var heldBackText: String { heldBack >= 10_000 ? "10000+" : "\(heldBack)" }

    private var sourceText: String {
        source == "configuration" ? "configuration" : overridesConfiguration ? "\(actor ?? "?"), for now" : actor ?? "?"
    }

    /// The lines of `worker limits show`.
    var details: [(name: String, value: String)] {
        var lines: [(name: String, value: String)] = [
            ("name", name), ("type", type),
            ("kinds", kinds.isEmpty ? "none that a worker handles" : kinds.joined(separator: ", ")),
        ]
        if let key { lines.append(("for each", key)) }
        lines.append(("allows", allows))
        if let burst { lines.append(("burst", "\(burst)")) }
        if let weight { lines.append(("weight", weight)) }
        if keyLimits > 0 { lines.append(("limits of keys", "\(keyLimits)")) }
        if let onDead { lines.append(("when a job dies", onDead == "halt" ? "its key waits" : "the next job runs")) }
        lines.append(("running", key == nil ? "\(running)" : "\(running), of \(keysRunning) keys"))
        lines.append(("held back", heldBackText))
        if let haltedKeys, haltedKeys > 0 { lines.append(("halted keys", "\(haltedKeys)")) }
        if let pausedUntil { lines.append(("paused until", pausedUntil.timeText)) }
        lines.append(("set by", sourceText))
        if let reason { lines.append(("reason", reason)) }
        lines.append(("since", updatedAt.timeText))
        return lines
    }

    var json: JSONValue {
        .object([
            "name": .string(name),
            "type": .string(type),
            "kinds": .array(kinds.map { .string($0) }),
            "key": .string(orNull: key),
            "weight": .string(orNull: weight),
            "concurrency": .integer(orNull: concurrency),
            "rate_per_second": .number(orNull: rate),
            "burst": .integer(orNull: burst),
            "on_dead": .string(orNull: onDead),
            "allows": .string(allows),
            "key_limits": .integer(Int64(keyLimits)),
            "running": .integer(Int64(running)),
            "keys_running": .integer(Int64(keysRunning)),
            "held_back": .integer(Int64(heldBack)),
            "halted_keys": .integer(orNull: haltedKeys),
            "paused_until": .time(pausedUntil),
            "source": .string(source),
            "overrides_configuration": .bool(overridesConfiguration),
            "actor": .string(orNull: actor),
            "reason": .string(orNull: reason),
            "updated_at": .time(updatedAt),
        ])
    }
}

extension KeyLimit {
    var json: JSONValue {
        .object([
            "value": .string(value),
            "concurrency": .integer(orNull: concurrency),
            "rate_per_second": .number(orNull: rate),
            "burst": .integer(orNull: burst),
            "actor": .string(orNull: actor),
            "reason": .string(orNull: reason),
            "updated_at": .time(updatedAt),
        ])
    }
}
