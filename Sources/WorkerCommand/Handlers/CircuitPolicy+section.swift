import Breakwater
import Yams

extension CircuitPolicy {
    /// Reads `circuit`, which is a section or the word `off`.
    ///
    /// - Parameters:
    ///   - handler: The handler's section; the circuit's effective values are recorded in it.
    ///   - defaults: What holds for the keys that are left out.
    ///   - timeout: The handler's, which no slow call can exceed.
    init(in handler: ConfigurationSection, defaults: CircuitPolicy, timeout: Duration) {
        self = defaults
        if let entry = handler.entries.first(where: { $0.name == "circuit" }), entry.node.scalar?.string == "off" {
            handler.know(["circuit"])
            isEnabled = false
            handler.effective.append(EffectiveEntry(key: "circuit", value: .text("off")))
            return
        }
        let section = handler.readSection("circuit")
        isEnabled = section.read("enabled", .flag, default: defaults.isEnabled)
        readThresholds(section, defaults: defaults, timeout: timeout)
        readNames(section, defaults: defaults)
        readStates(section, defaults: defaults)
        key = section.read("key", ValueRule.circuitKey.orOff(), default: defaults.key)
        fallback = Fallback(in: section, default: defaults.fallback)
        handler.record(section, as: "circuit")
    }

    /// What opens the circuit.
    private mutating func readThresholds(
        _ section: ConfigurationSection,
        defaults: CircuitPolicy,
        timeout: Duration
    ) {
        failureRate = section.read("failure_rate", ValueRule.share.orOff(), default: defaults.failureRate)
        let calls = ValueRule.duration(atLeast: .milliseconds(1)).orOff()
        slowCall = section.read("slow_call", calls, default: defaults.slowCall)
        slowRate = section.read("slow_rate", .share, default: defaults.slowRate)
        window = section.read("window", .window, default: defaults.window)
        var fewest = defaults.minimumCalls
        // A small window is not refused for the sake of a minimum that nobody asked for.
        if case .calls(let size) = window { fewest = min(fewest, size) }
        minimumCalls = section.read("minimum_calls", .whole(1...1_000_000), default: fewest)
        consecutiveFailures = section.read(
            "consecutive_failures",
            ValueRule.whole(1...1_000_000).orOff(),
            default: defaults.consecutiveFailures
        )

        if let slowCall, slowCall >= timeout {
            section.report(
                "slow_call",
                "slow_call, \(slowCall.text), is not below the handler's timeout, \(timeout.text), which ends every call; "
                    + "give a shorter slow_call, or a longer timeout"
            )
        }
        if slowCall == nil, section.has("slow_rate") {
            section.warn("slow_rate", "it has no effect without slow_call, which says how long a slow call takes")
        }
        if case .calls(let size) = window, minimumCalls > size {
            section.report(
                "minimum_calls",
                "minimum_calls, \(minimumCalls), is more than the window of \(size) calls ever holds; "
                    + "give at most \(size), or a larger window"
            )
        }
    }

    /// Which failures count.
    private mutating func readNames(_ section: ConfigurationSection, defaults: CircuitPolicy) {
        countOn = section.readList("count_on", of: .failureName, default: defaults.countOn)
        ignoreOn = section.readList("ignore_on", of: .failureName, default: defaults.ignoreOn)
        tripOn = section.readList("trip_on", of: .failureName, default: defaults.tripOn)
        honoursRetryAfter = section.read("retry_after", .flag, default: defaults.honoursRetryAfter)
        section.refuseNames(in: "ignore_on", ignoreOn, alsoIn: "count_on", countOn)
        section.refuseNames(in: "ignore_on", ignoreOn, alsoIn: "trip_on", tripOn)
        section.refuseNames(in: "count_on", countOn, alsoIn: "trip_on", tripOn)
    }

    /// How long it stays open, and how it closes again.
    private mutating func readStates(_ section: ConfigurationSection, defaults: CircuitPolicy) {
        openFor = section.read("open_for", .duration(atLeast: .milliseconds(1)), default: defaults.openFor)
        openFactor = section.read("open_factor", .number(1...1000), default: defaults.openFactor)
        openCap = section.read("open_cap", .duration(atLeast: .milliseconds(1)), default: defaults.openCap)
        probes = section.read("probes", .whole(1...10_000), default: defaults.probes)
        successesToClose = section.read("successes_to_close", .whole(1...10_000), default: defaults.successesToClose)
        let halfOpen = ValueRule.duration(atLeast: .seconds(1)).orOff()
        halfOpenFor = section.read("half_open_for", halfOpen, default: defaults.halfOpenFor)
        ramp = section.read("ramp", .duration(atLeast: .zero), default: defaults.ramp)
        suspendsWorkers = section.read("suspend_workers", .flag, default: defaults.suspendsWorkers)
        if openFor > openCap {
            section.report(
                section.has("open_for") ? "open_for" : "open_cap",
                "open_for, \(openFor.text), is longer than open_cap, \(openCap.text); "
                    + "give an open_for of at most open_cap, or a longer open_cap"
            )
        }
    }
}
