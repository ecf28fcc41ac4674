import Breakwater
import BreakwaterHTTP
import BreakwaterSQL
import Yams

extension [HandlerRegistration] {
    /// Reads `handlers` and adds the handlers that the executable registers itself.
    ///
    /// - Parameters:
    ///   - section: The file's section, perhaps without keys.
    ///   - registered: The handlers written in Swift. The file may give settings for one under `swift: {}`.
    init(_ section: ConfigurationSection, registered: [HandlerRegistration]) {
        self = []
        let kindRule = ValueRule<String>.kind
        for entry in section.entries {
            section.know([entry.name])
            do {
                _ = try kindRule.read(entry.name)
            } catch {
                section.report(entry.name, error.message)
            }
            let handler = section.readSection(entry.name)
            if let registration = HandlerRegistration(handler, kind: entry.name, registered: registered) {
                append(registration)
            }
            section.record(handler, as: entry.name)
        }
        for (index, registration) in registered.enumerated() where !section.has(registration.kind) {
            guard !registered[..<index].contains(where: { $0.kind == registration.kind }) else {
                let message = "the kind '\(registration.kind)' is registered twice; register each once"
                section.context.report(.init(origin: .code, key: "kind", message: message))
                continue
            }
            do {
                _ = try kindRule.read(registration.kind)
            } catch {
                section.context.report(.init(origin: .code, key: "kind", message: error.message))
            }
            let handler = section.absent(registration.kind)
            if let registration = HandlerRegistration(handler, kind: registration.kind, registered: registered) {
                append(registration)
            }
            section.record(handler, as: registration.kind)
        }
        checkTogether(section.context)
        if isEmpty, section.entries.isEmpty {
            section.report(
                "there is no handler; a worker needs at least one, such as  file.digest: { exec: { command: [sha256sum] } }"
            )
        }
    }
}

extension HandlerRegistration {
    /// Reads one handler: its plugin and the rules around it.
    fileprivate init?(_ section: ConfigurationSection, kind: String, registered: [HandlerRegistration]) {
        let inSwift = registered.first { $0.kind == kind }
        let plugin = Self.plugin(section, kind: kind, inSwift: inSwift)
        var defaults = inSwift?.settings ?? HandlerSettings()
        if defaults.concurrency == nil, let capacity = plugin?.capacity {
            defaults.concurrency = min(capacity, SettingLimits.concurrency.upperBound)
        }
        // Each endpoint has a circuit of its own.
        let endpointKey = (plugin as? HTTPPlugin)?.endpointPath.map { CircuitPolicy.Key.path($0) }
        if let endpointKey { defaults.circuit.key = endpointKey }
        let settings = HandlerSettings(section, kind: kind, defaults: defaults)
        if let endpointKey, settings.circuit.key != endpointKey {
            section.report(
                "circuit",
                "key: each endpoint has a circuit of its own, whose key is \(ValueRule.circuitKey.text(endpointKey)); leave "
                    + "the key out"
            )
        }
        if plugin is SQLPlugin, settings.timeout > SQLPlugin.longestTimeout {
            section.report(
                "timeout",
                "\(settings.timeout.text) is too long for sql: its transaction keeps vacuum from cleaning up all that while; "
                    + "give at most \(SQLPlugin.longestTimeout.text)"
            )
        }
        guard let plugin else { return nil }
        if let capacity = plugin.capacity, let concurrency = settings.concurrency, concurrency > capacity {
            section.warn(
                "concurrency",
                "\(concurrency) is more than the \(capacity) that its plugin runs at once; "
                    + "other jobs wait in the worker, and their timeouts run"
            )
        }
        self.init(kind: kind, plugin: plugin, settings: settings)
    }

    /// Reads the one key that names the plugin.
    private static func plugin(
        _ section: ConfigurationSection,
        kind: String,
        inSwift: HandlerRegistration?
    ) -> (any HandlerPlugin)? {
        let names = PluginFactory.all.map(\.name) + ["swift"]
        section.know(names)
        let given = names.filter { section.has($0) }
        guard given.count <= 1 else {
            section.report("\(given.joined(separator: " and ")) are both given; a kind has one of them")
            return nil
        }
        let options = names.dropLast().joined(separator: ", ")
        guard let name = given.first ?? (inSwift == nil ? nil : "swift") else {
            if section.isMalformed { return nil }
            section.report("nothing says what runs the jobs; give one of \(options)")
            return nil
        }
        switch (name, inSwift) {
        case ("swift", .some(let registration)):
            let inner = section.readSection(name)
            section.record(inner, as: name)
            return registration.plugin
        case ("swift", nil):
            section.report(name, "this executable has no Swift handler of the kind '\(kind)'; give one of \(options)")
            return nil
        case (_, .some):
            section.report(name, "this kind is registered in Swift; give swift: {} or another kind")
            return nil
        case (_, nil):
            let inner = section.readSection(name)
            defer { section.record(inner, as: name) }
            do {
                return try PluginFactory.all.first { $0.name == name }?.make(inner, kind)
            } catch {
                inner.report("\(error)")
                return nil
            }
        }
    }
}

extension HandlerSettings {
    /// Reads the rules around a handler.
    fileprivate init(_ section: ConfigurationSection, kind: String, defaults: HandlerSettings) {
        self = defaults
        concurrency = section.read(
            "concurrency",
            ValueRule.whole(SettingLimits.concurrency).orOff(),
            default: defaults.concurrency
        )
        timeout = section.read("timeout", .duration(SettingLimits.timeout), default: defaults.timeout)
        keepResults = section.read("keep_results", .duration(SettingLimits.keepResults), default: defaults.keepResults)
        history = JobHistory?(in: section, default: defaults.history)
        let retrySection = section.readSection("retry")
        retry = RetryPolicy(retrySection, defaults: defaults.retry)
        section.record(retrySection, as: "retry")
        circuit = CircuitPolicy(in: section, defaults: defaults.circuit, timeout: timeout)
        readFlow(section, kind: kind, defaults: defaults)
    }
}
