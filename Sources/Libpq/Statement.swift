/// One SQL statement and the values of its `$1`, `$2`, ….
public struct Statement: Sendable, Hashable {
    /// The source of the statement.
    enum Source: Sendable, Hashable {
        case text(String)
        case prepared(String)
    }

    let source: Source
    let parameters: [Parameter]

    /// Makes a statement from SQL, which must be exactly one statement because the extended protocol runs no more.
    public init(_ sql: String, _ parameters: [Parameter] = []) {
        source = .text(sql)
        self.parameters = parameters
    }

    /// Makes a statement that runs one which ``Connection/prepare(_:_:timeout:)`` prepared on the same connection.
    public init(prepared name: String, _ parameters: [Parameter] = []) {
        source = .prepared(name)
        self.parameters = parameters
    }

    /// The most parameters, which the protocol counts in 16 bits.
    static let maximumParameters = 65_535
    /// The most bytes of all parameters. The server refuses messages of 1 GiB (`PQ_LARGE_MESSAGE_LIMIT`), and this
    /// leaves room for the rest of the message.
    static let maximumParameterBytes = 1_000_000_000

    /// Throws when the statement cannot be sent. `index` is its index in the pipeline.
    func validate(index: Int) throws(PostgresError) {
        let text =
            switch source {
            case .text(let sql): sql;
            case .prepared(let name): name
            }
        if text.utf8.contains(0) {
            throw PostgresError(.misuse, "the statement contains U+0000", statement: index)
        }
        if parameters.count > Self.maximumParameters {
            throw PostgresError(
                .invalidParameter,
                "\(parameters.count) parameters were given, and the protocol carries \(Self.maximumParameters); "
                    + "pass an array instead",
                statement: index
            )
        }
        var total = 0
        for (position, parameter) in parameters.enumerated() {
            if let problem = parameter.problem {
                throw PostgresError(.invalidParameter, "parameter $\(position + 1): \(problem)", statement: index)
            }
            total += parameter.bytes?.count ?? 0
            if total > Self.maximumParameterBytes {
                throw PostgresError(
                    .invalidParameter,
                    "parameter $\(position + 1) brings the statement over \(Self.maximumParameterBytes) bytes",
                    statement: index
                )
            }
        }
    }
}
