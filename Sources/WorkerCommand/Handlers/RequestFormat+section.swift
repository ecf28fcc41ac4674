import Breakwater
import BreakwaterHTTP
import Yams

extension RequestFormat {
    /// Reads the keys of `http` that say what requests look like.
    ///
    /// - Parameters:
    ///   - section: The section.
    ///   - headers: The names of the configured headers.
    init(_ section: ConfigurationSection, headers: [String]) {
        self.init()
        method = section.read("method", .choice, default: .post)
        if section.has("content_type"), headers.contains(where: { $0.lowercased() == "content-type" }) {
            section.report("content_type", "the headers have a Content-Type as well; give one of them")
        }
        contentType = section.read("content_type", .text("a content type", bytes: 1...200), default: contentType)
        success = section.readList("success", of: .statuses, default: success)
        readBody(section)
    }

    /// Reads `body`: a path into the payload, or a value with such paths in it.
    private mutating func readBody(_ section: ConfigurationSection) {
        guard let entry = section.entry("body") else {
            section.effective.append(EffectiveEntry(key: "body", value: .text("$")))
            return
        }
        guard method.hasBody else {
            section.report("body", "a \(method.rawValue) request has no body; leave it out, or give another method")
            return
        }
        do {
            body = try BodyTemplate(entry.node, section, depth: 0)
            let shown = try entry.node.json { text in text }
            section.effective.append(EffectiveEntry(key: "body", value: .json(shown)))
        } catch {
            section.report("body", error.message)
        }
    }
}

extension BodyTemplate {
    /// The deepest nesting of a template.
    private static var maximumDepth: Int { 32 }

    /// Reads a template: a text that begins with `$` is a path into the payload, `$` alone is all of it, and `$$` stands
    /// for a `$` at the beginning of a text.
    fileprivate init(_ node: Node, _ section: ConfigurationSection, depth: Int) throws(ValueRefusal) {
        guard depth < Self.maximumDepth else { throw ValueRefusal("it is nested too deeply") }
        switch node {
        case .mapping(let mapping):
            var members: [Member] = []
            for (key, value) in mapping {
                guard let name = key.scalar?.string else { throw ValueRefusal("a key of JSON must be a text") }
                members.append(Member(name, try BodyTemplate(value, section, depth: depth + 1)))
            }
            self = .object(members)
        case .sequence(let sequence):
            var values: [BodyTemplate] = []
            for value in sequence { values.append(try BodyTemplate(value, section, depth: depth + 1)) }
            self = .list(values)
        case .scalar(let scalar) where scalar.string == "$":
            self = .payload
        case .scalar(let scalar) where scalar.string.hasPrefix("$$"):
            self = .json(String(scalar.string.dropFirst()).jsonText)
        case .scalar(let scalar) where scalar.string.hasPrefix("$.") || scalar.string.hasPrefix("$["):
            self = .value(at: try JSONPath(refusing: scalar.string).segments)
        default:
            let environment = section.context.environment
            self = .json(
                try node.json { text throws(ValueRefusal) in
                    try Substitution.apply(to: text, environment: environment).text
                }
            )
        }
    }
}

extension JSONPath {
    /// Reads a path.
    fileprivate init(refusing text: String) throws(ValueRefusal) {
        do {
            try self.init(text: text)
        } catch let refusal as ValueRefusal {
            throw refusal
        } catch {
            throw ValueRefusal("\(error)")
        }
    }
}

extension ValueRule where Value == ClosedRange<Int> {
    /// A status of HTTP, such as `204`, or a class of them, such as `2xx`.
    static var statuses: Self {
        Self(
            allowed: "a status from 200 to 599, or 2xx, 3xx, 4xx or 5xx",
            parse: { text in
                if text.count == 3, text.hasSuffix("xx"), let first = text.first?.wholeNumberValue,
                    (2...5).contains(first)
                {
                    return first * 100...first * 100 + 99
                }
                return Int(text).flatMap { (200...599).contains($0) ? $0...$0 : nil }
            },
            text: { range in
                range.count == 100 && range.lowerBound.isMultiple(of: 100)
                    ? "\(range.lowerBound / 100)xx" : "\(range.lowerBound)"
            }
        )
    }
}
