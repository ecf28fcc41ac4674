import Breakwater
import Yams

extension CircuitPolicy {
    /// Reads `circuit`, which is a section or the word `off`.
    ///
    /// - Parameters:
    ///   - handler: The handler's section; the circuit's effective values are recorded in it.
    ///   - defaults: The values for keys that are left out.
    ///   - timeout: The handler's timeout, which `slow_call` must not exceed.
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

    /// Reads the keys that say what opens the circuit.
    private mutating func readThresholds(
        _ section: ConfigurationSection,
        defaults: CircuitPolicy,
        timeout: Duration
    ) {
        failureRate = section.read("failure_rate", ValueRule.share.orOff(), default: defaults.failureRate)
        let calls = ValueRule.duration(SettingLimits.slowCall).orOff()
        slowCall = section.read("slow_call", calls, default: defaults.slowCall)
        slowRate = section.read("slow_rate", .share, default: defaults.slowRate)
        window = section.read("window", .window, default: defaults.window)
        var fewest = defaults.minimumCalls
        // A window smaller than the default minimum lowers that minimum, instead of being refused because of it.
        if case .calls(let size) = window { fewest = min(fewest, size) }
        minimumCalls = section.read("minimum_calls", .whole(SettingLimits.calls), default: fewest)
        consecutiveFailures = section.read(
            "consecutive_failures",
            ValueRule.whole(SettingLimits.calls).orOff(),
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

    /// Reads the keys that say which failures count.
    private mutating func readNames(_ section: ConfigurationSection, defaults: CircuitPolicy) {
        countOn = section.readList("count_on", of: .failureName, default: defaults.countOn)
        ignoreOn = section.readList("ignore_on", of: .failureName, default: defaults.ignoreOn)
        tripOn = section.readList("trip_on", of: .failureName, default: defaults.tripOn)
        honoursRetryAfter = section.read("retry_after", .flag, default: defaults.honoursRetryAfter)
        section.refuseNames(in: "ignore_on", ignoreOn, alsoIn: "count_on", countOn)
        section.refuseNames(in: "ignore_on", ignoreOn, alsoIn: "trip_on", tripOn)
        section.refuseNames(in: "count_on", countOn, alsoIn: "trip_on", tripOn)
    }

    /// Reads the keys that say how long the circuit stays open and how it closes.
    private mutating func readStates(_ section: ConfigurationSection, defaults: CircuitPolicy) {
        openFor = section.read("open_for", .duration(SettingLimits.openTime), default: defaults.openFor)
        openFactor = section.read("open_factor", .number(SettingLimits.openFactor), default: defaults.openFactor)
        openCap = section.read("open_cap", .duration(SettingLimits.openTime), default: defaults.openCap)
        probes = section.read("probes", .whole(SettingLimits.probes), default: defaults.probes)
        successesToClose = section.read(
            "successes_to_close",
            .whole(SettingLimits.probes),
            default: defaults.successesToClose
        )
        let halfOpen = ValueRule.duration(SettingLimits.halfOpenFor).orOff()
        halfOpenFor = section.read("half_open_for", halfOpen, default: defaults.halfOpenFor)
        ramp = section.read("ramp", .duration(SettingLimits.ramp), default: defaults.ramp)
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
