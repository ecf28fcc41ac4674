import Breakwater

extension [HandlerRegistration] {
    /// Checks the handlers together: for reroutes that form a cycle or name a kind without a handler, and for rules of
    /// a shared circuit or settings of a shared limit that differ.
    ///
    /// - Parameter context: Receives the problems and warnings. It knows where the file gives each handler's keys.
    func checkTogether(_ context: ConfigurationContext) {
        checkReroutes(context)
        checkSharedCircuits(context)
        checkSharedLimits(context)
    }

    /// Refuses a limit that several handlers name and set differently, because only one of them could hold.
    private func checkSharedLimits(_ context: ConfigurationContext) {
        var first: [String: (kind: String, limit: JobLimit)] = [:]
        for handler in self {
            for limit in handler.settings.limits {
                guard let name = limit.name, let other = first[name] else {
                    if let name = limit.name { first[name] = (handler.kind, limit) }
                    continue
                }
                guard other.limit != limit else { continue }
                let key = "handlers.\(handler.kind.escapingControlCharacters).limits"
                let message =
                    "the limit '\(name)' is set differently by '\(other.kind)'; set it the same in both, "
                    + "or give one of them another name"
                context.report(context.problem(with: key, message))
            }
        }
    }

    private func checkReroutes(_ context: ConfigurationContext) {
        var targets: [String: String] = [:]
        for handler in self {
            if case .reroute(let kind) = handler.settings.circuit.fallback {
                targets[handler.kind] = kind
            }
        }
        var inCycles: Set<String> = []
        for handler in self {
            guard let target = targets[handler.kind], !inCycles.contains(handler.kind) else { continue }
            let key = ConfigurationSection.fallbackPath(of: handler.kind)
            if let cycle = cycle(from: handler.kind, targets) {
                inCycles.formUnion(cycle)
                let way = (cycle + [handler.kind]).map { "'\($0)'" }.joined(separator: " → ")
                let message =
                    cycle.count == 1
                    ? "reroute: \(way) leads back to the kind itself; give another kind, or another fallback"
                    : "reroute: \(way) is a circle; give one of these kinds another fallback"
                context.report(context.problem(with: key, message))
            } else if !contains(where: { $0.kind == target }) {
                context.warn(
                    context.problem(
                        with: key,
                        "reroute: this worker has no handler of the kind '\(target)'; another worker must have one"
                    )
                )
            }
        }
    }

    /// The cycle of reroutes from a kind back to itself, beginning with that kind; nil if the kind is in no cycle.
    private func cycle(from start: String, _ targets: [String: String]) -> [String]? {
        var way = [start]
        var visited: Set = [start]
        while let last = way.last, let next = targets[last] {
            if next == start { return way }
            // The reroutes lead into a cycle without the first kind. It is reported for a kind that is in it.
            guard visited.insert(next).inserted else { return nil }
            way.append(next)
        }
        return nil
    }

    private func checkSharedCircuits(_ context: ConfigurationContext) {
        let shared = Dictionary(grouping: filter(\.settings.circuit.isEnabled)) { handler in
            if case .shared(let name) = handler.settings.circuit.key { name } else { nil as String? }
        }
        for case let (name?, handlers) in shared where handlers.count > 1 {
            // This is the order of SQL's COLLATE "C", because SQL decides which handler's policy applies.
            let handlers = handlers.sorted { $0.kind.utf8.lexicographicallyPrecedes($1.kind.utf8) }
            let first = handlers[0]
            let differing = CircuitPolicy.fleetRules.filter { rule in
                handlers.contains { rule.text($0.settings.circuit) != rule.text(first.settings.circuit) }
            }.map(\.key)
            guard !differing.isEmpty else { continue }
            let kinds = handlers.map { "'\($0.kind)'" }.joined(separator: ", ")
            context.warn(
                context.problem(
                    with: ConfigurationSection.circuitPath(of: first.kind, key: "key"),
                    "\(kinds) share the circuit '\(name)' but differ in \(differing.joined(separator: ", ")); "
                        + "what '\(first.kind)' says, the first by name, holds for all"
                )
            )
        }
    }
}

extension CircuitPolicy {
    /// The rules that SQL applies to the circuit as a whole. Each has its key, and a text that is equal for equal
    /// rules. Other rules, such as `slow_call` and the lists of names, apply to each handler separately.
    fileprivate static var fleetRules: [(key: String, text: (CircuitPolicy) -> String)] {
        [
            ("failure_rate", { "\($0.failureRate as Any)" }),
            ("slow_rate", { $0.slowCall == nil ? "" : "\($0.slowRate)" }),
            ("window", { "\($0.window)" }),
            ("minimum_calls", { "\($0.minimumCalls)" }),
            ("consecutive_failures", { "\($0.consecutiveFailures as Any)" }),
            ("open_for", { "\($0.openFor)" }),
            ("open_factor", { "\($0.openFactor)" }),
            ("open_cap", { "\($0.openCap)" }),
            ("probes", { "\($0.probes)" }),
            ("successes_to_close", { "\($0.successesToClose)" }),
            ("half_open_for", { "\($0.halfOpenFor as Any)" }),
            ("ramp", { "\($0.ramp)" }),
            ("suspend_workers", { "\($0.suspendsWorkers)" }),
        ]
    }
}

extension ConfigurationSection {
    /// The path of a key in a kind's circuit.
    fileprivate static func circuitPath(of kind: String, key: String) -> String {
        "handlers.\(kind.escapingControlCharacters).circuit.\(key)"
    }

    fileprivate static func fallbackPath(of kind: String) -> String { circuitPath(of: kind, key: "fallback") }
}
