/// The address of a page of the dashboard, with its parameters.
///
/// The path is a literal in the source code that begins with one slash, and values are encoded. So no value can make a
/// link leave the dashboard or run a script.
struct Link: Sendable, Equatable {
    private var path: String
    private var parameters: [(name: String, value: String)] = []

    /// A page.
    ///
    /// - Parameters:
    ///   - path: The path, such as `/jobs`.
    ///   - id: A number after the path, as in `/jobs/17`.
    init(_ path: StaticString, id: Int64? = nil) {
        self.path = "\(path)" + (id.map { "/\($0)" } ?? "")
    }

    /// A page below a numbered one: `/jobs/17/cancel`.
    init(_ path: StaticString, id: Int64, _ below: StaticString) {
        self.path = "\(path)/\(id)/\(below)"
    }

    /// The link with one more parameter. Nil and the empty text are left out.
    func with(_ name: StaticString, _ value: String?) -> Link {
        guard let value, !value.isEmpty else { return self }
        var link = self
        link.parameters.append(("\(name)", value))
        return link
    }

    /// The link as text for a page.
    var text: String {
        guard !parameters.isEmpty else { return path }
        return path + "?" + parameters.map { "\($0.name)=\(FormValues.encoded($0.value))" }.joined(separator: "&")
    }

    static func == (left: Link, right: Link) -> Bool { left.text == right.text }
}
