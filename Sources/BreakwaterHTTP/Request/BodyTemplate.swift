import Breakwater

/// The body of a handler's requests, made from the payload of each job.
public indirect enum BodyTemplate: Sendable, Equatable {
    /// The whole payload.
    case payload
    /// The value at this path of the payload: names of members and indexes of elements, the outermost first.
    ///
    /// If the payload has no such value, it is null within an object or a list. As the whole body it is needed: the job
    /// is discarded.
    case value(at: [String])
    /// An object with these members.
    case object([Member])
    /// A list.
    case list([BodyTemplate])
    /// This JSON text.
    case json(String)

    /// A member of an object.
    public struct Member: Sendable, Equatable {
        /// The member's name.
        public var name: String
        /// The member's value.
        public var value: BodyTemplate

        /// - Parameters:
        ///   - name: The member's name.
        ///   - value: The member's value.
        public init(_ name: String, _ value: BodyTemplate) {
            self.name = name
            self.value = value
        }
    }

    /// The body as JSON.
    ///
    /// - Throws: `BodyProblem` when the payload lacks the value that is the whole body.
    func json(for payload: [UInt8]) throws(BodyProblem) -> [UInt8] {
        switch self {
        case .payload:
            return payload
        case .value(let path):
            guard let slice = JSONSlice(path, in: payload) else {
                throw BodyProblem("the payload has nothing at \(path.jsonPathText), which is to be the request's body")
            }
            return Array(slice.bytes)
        default:
            var json: [UInt8] = []
            append(to: &json, payload)
            return json
        }
    }

    private func append(to json: inout [UInt8], _ payload: [UInt8]) {
        switch self {
        case .payload: json += payload
        case .value(let path): json += JSONSlice(path, in: payload)?.bytes ?? ArraySlice("null".utf8)
        case .json(let text): json += text.utf8
        case .object(let members):
            json.append(UInt8(ascii: "{"))
            for (index, member) in members.enumerated() {
                if index > 0 { json.append(UInt8(ascii: ",")) }
                json += JobResult.quoted(member.name).utf8
                json.append(UInt8(ascii: ":"))
                member.value.append(to: &json, payload)
            }
            json.append(UInt8(ascii: "}"))
        case .list(let values):
            json.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { json.append(UInt8(ascii: ",")) }
                value.append(to: &json, payload)
            }
            json.append(UInt8(ascii: "]"))
        }
    }
}

/// The reason why a payload makes no body.
struct BodyProblem: Error {
    var message: String

    init(_ message: String) { self.message = message }
}

extension [String] {
    /// The path for people: `$.customer.url`.
    var jsonPathText: String {
        "$"
            + map { segment in
                segment.utf8.allSatisfy(\.isPlainPathCharacter) && !segment.isEmpty ? ".\(segment)" : "[\"\(segment)\"]"
            }.joined()
    }
}

extension UInt8 {
    fileprivate var isPlainPathCharacter: Bool {
        switch self {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "_"), UInt8(ascii: "-"), 0x80...:
            true
        default: false
        }
    }
}
