import Yams

extension ConfigurationSection {
    /// A scalar of the file after substitution.
    struct Text {
        /// The value to use.
        var value: String
        /// The value to show: the text as it stands in the file if a variable was substituted in it.
        var shown: String
        /// Whether a variable was substituted in it.
        var isSubstituted: Bool
    }

    /// Reads one value.
    ///
    /// - Parameters:
    ///   - key: The key in this section.
    ///   - rule: What is allowed.
    ///   - fallback: The value when the key is left out or invalid.
    ///   - mask: Masks a secret value for display. Defaults to no masking.
    func read<Value>(
        _ key: String,
        _ rule: ValueRule<Value>,
        default fallback: Value,
        mask: (String) -> String = { $0 }
    ) -> Value {
        if let value = readIfPresent(key, rule, mask: mask) { return value }
        if !has(key) {
            effective.append(EffectiveEntry(key: key, value: .text(mask(rule.text(fallback)))))
        }
        return fallback
    }

    /// Reads one value that has no default.
    ///
    /// - Returns: The value; nil when the key is left out or invalid.
    func readIfPresent<Value>(
        _ key: String,
        _ rule: ValueRule<Value>,
        mask: (String) -> String = { $0 }
    ) -> Value? {
        guard let entry = entry(key), let text = text(of: entry.node, key: key, allowed: rule.allowed) else {
            return nil
        }
        do {
            let value = try rule.read(text.value)
            effective.append(
                EffectiveEntry(key: key, value: .text(mask(text.isSubstituted ? text.shown : rule.text(value))))
            )
            return value
        } catch {
            report(key, error.message.replacing("'\(text.value)'", with: "'\(mask(text.shown))'"))
            return nil
        }
    }

    /// Reads a list of values.
    func readList<Value>(_ key: String, of rule: ValueRule<Value>, default fallback: [Value]) -> [Value] {
        guard let entry = entry(key) else {
            effective.append(EffectiveEntry(key: key, value: .list(fallback.map { .text(rule.text($0)) })))
            return fallback
        }
        guard case .sequence(let sequence) = entry.node else {
            report(key, "\(entry.node.description(limit: 60)) is not a list; give [a, b], each \(rule.allowed)")
            return fallback
        }
        var values: [Value] = []
        var shown: [EffectiveValue] = []
        for (index, node) in sequence.enumerated() {
            guard let text = text(of: node, key: "\(key)[\(index)]", line: entry.line, allowed: rule.allowed) else {
                continue
            }
            do {
                let value = try rule.read(text.value)
                values.append(value)
                shown.append(.text(text.isSubstituted ? text.shown : rule.text(value)))
            } catch {
                report(key, "[\(index)] " + error.message.replacing("'\(text.value)'", with: "'\(text.shown)'"))
            }
        }
        effective.append(EffectiveEntry(key: key, value: .list(shown)))
        return values
    }

    /// Reads a mapping of names to texts, such as headers or variables; values under secret names are masked.
    func readTexts(_ key: String, name: ValueRule<String>) -> [(name: String, value: String)] {
        let section = readSection(key)
        var texts: [(name: String, value: String)] = []
        for entry in section.entries {
            section.know([entry.name])
            do {
                _ = try name.read(entry.name)
            } catch {
                section.report(entry.name, error.message)
            }
            guard let text = section.text(of: entry.node, key: entry.name, allowed: "a text") else { continue }
            texts.append((entry.name, text.value))
            let shown = Secrets.isSecretName(entry.name) ? Secrets.mask : text.shown
            section.effective.append(EffectiveEntry(key: entry.name, value: .text(shown)))
        }
        record(section, as: key)
        return texts
    }

    /// Reads a section inside this one. A section that is left out reads as one without keys.
    ///
    /// When its keys have been read, pass it to ``record(_:as:)``.
    func readSection(_ key: String) -> ConfigurationSection {
        guard let entry = entry(key) else { return absent(key) }
        return ConfigurationSection(entry.node, context: context, path: path(of: key), line: entry.line)
    }

    /// Ends the reading of a section inside this one: reports its unknown keys, and adds its values to the effective
    /// configuration.
    func record(_ section: ConfigurationSection, as key: String) {
        section.finish()
        effective.append(EffectiveEntry(key: key, value: .map(section.effective)))
    }

    /// The text of a node that must be a scalar. Returns nil, after reporting a problem, when the node is no scalar or
    /// a variable is missing.
    func text(of node: Node, key: String, line: Int? = nil, allowed: String) -> Text? {
        func refuse(_ message: String) -> Text? {
            guard let line else {
                report(key, message)
                return nil
            }
            context.report(.init(origin: .file(name: context.file, line: line), key: path(of: key), message: message))
            return nil
        }
        guard case .scalar(let scalar) = node else {
            return refuse("\(node.description(limit: 60)) is not allowed; give \(allowed)")
        }
        guard !node.isEmptyScalar else {
            return refuse("there is no value; give \(allowed), or leave the key out")
        }
        do {
            let (value, isSubstituted) = try Substitution.apply(to: scalar.string, environment: context.environment)
            return Text(value: value, shown: scalar.string, isSubstituted: isSubstituted)
        } catch {
            return refuse(error.message)
        }
    }
}
