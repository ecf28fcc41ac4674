/// What a handler's requests look like, and which answers count as a success.
public struct RequestFormat: Sendable, Equatable {
    /// The method of a request. `GET`, `HEAD` and `DELETE` send no body.
    public enum Method: String, Sendable, CaseIterable {
        case get = "GET"
        case head = "HEAD"
        case post = "POST"
        case put = "PUT"
        case patch = "PATCH"
        case delete = "DELETE"

        /// Whether its requests have a body.
        public var hasBody: Bool { self == .post || self == .put || self == .patch }
    }

    /// The method. Defaults to POST.
    public var method = Method.post
    /// The body. Defaults to the payload.
    public var body = BodyTemplate.payload
    /// The `Content-Type`, which also says how the body is written. Defaults to `application/json`.
    ///
    /// For `application/x-www-form-urlencoded` the body must be an object without objects or lists in it, which is
    /// written as a form. For `application/json`, and for any type that ends in `+json`, it is JSON. For any other
    /// type it must be a string, a number or a boolean, which is sent as text.
    public var contentType = "application/json"
    /// The statuses that count as a success, 200 to 599. Defaults to 200 to 299.
    public var success: [ClosedRange<Int>] = [200...299]

    /// The defaults.
    public init() {}

    /// Whether an answer with this status is a success.
    func isSuccess(_ status: Int) -> Bool { success.contains { $0.contains(status) } }

    /// - Throws: ``HTTPPluginError`` for a value that is not allowed.
    func validate() throws {
        guard (1...200).contains(contentType.utf8.count), contentType.utf8.allSatisfy({ (0x20..<0x7F).contains($0) }),
            contentType.wholeMatch(of: /[^\s\/;]+\/[^\s\/;]+\s*(;.*)?/) != nil
        else {
            throw HTTPPluginError(
                .invalidContentType,
                "\(contentType.debugDescription) is not a content type; write one such as application/json"
            )
        }
        guard !success.isEmpty, success.allSatisfy({ $0.lowerBound >= 200 && $0.upperBound <= 599 }) else {
            throw HTTPPluginError(.invalidStatus, "the statuses that count as a success must be 200 to 599")
        }
        guard method.hasBody || body == .payload else {
            throw HTTPPluginError(.invalidBody, "a \(method.rawValue) request has no body: leave the body out")
        }
    }

    /// How the content type wants the body to be written.
    private enum Encoding { case json, form, text }

    private var encoding: Encoding {
        // Most requests have this type, which is not taken apart for each of them.
        if contentType == "application/json" { return .json }
        let type = contentType.prefix { $0 != ";" }.lowercased().filter { $0 != " " }
        if type == "application/json" || type.hasSuffix("+json") { return .json }
        return type == "application/x-www-form-urlencoded" ? .form : .text
    }

    /// The body of a request.
    ///
    /// - Throws: `BodyProblem` when the payload does not make such a body.
    func body(for payload: [UInt8]) throws(BodyProblem) -> [UInt8] {
        guard method.hasBody else { return [] }
        let json = try body.json(for: payload)
        switch encoding {
        case .json: return json
        case .form: return try Self.form(json)
        case .text:
            guard let slice = JSONSlice([], in: json), !slice.isContainer else {
                throw BodyProblem("the body is an object or a list, which cannot be sent as \(contentType)")
            }
            return Array((slice.text ?? "").utf8)
        }
    }

    /// An object as `application/x-www-form-urlencoded`. Null members are left out.
    private static func form(_ json: [UInt8]) throws(BodyProblem) -> [UInt8] {
        guard let members = JSONSlice([], in: json)?.members else {
            throw BodyProblem("the body is not an object, and only an object can be sent as a form")
        }
        var form: [UInt8] = []
        for (name, value) in members {
            guard !value.isContainer else {
                throw BodyProblem("the body's member '\(name)' is an object or a list, which a form cannot hold")
            }
            guard let text = value.text else { continue }
            if !form.isEmpty { form.append(UInt8(ascii: "&")) }
            form += name.formEncoded
            form.append(UInt8(ascii: "="))
            form += text.formEncoded
        }
        return form
    }
}

extension String {
    /// The text as part of a form: a space is `+`, and all but letters, digits and `*-._` is `%XX`.
    fileprivate var formEncoded: [UInt8] {
        var encoded: [UInt8] = []
        for byte in utf8 {
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "z"),
                UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "*"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"):
                encoded.append(byte)
            case UInt8(ascii: " "): encoded.append(UInt8(ascii: "+"))
            default: encoded += "%\(byte < 0x10 ? "0" : "")\(String(byte, radix: 16, uppercase: true))".utf8
            }
        }
        return encoded
    }
}
