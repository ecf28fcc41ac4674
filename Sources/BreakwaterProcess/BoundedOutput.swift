/// The beginning of a program's output, and the length of the whole output.
struct BoundedOutput: Sendable {
    let limit: Int
    private(set) var kept: [UInt8] = []
    private(set) var written = 0

    init(limit: Int) {
        self.limit = limit
    }

    var isCut: Bool { written > kept.count }

    mutating func append(_ bytes: [UInt8]) {
        written += bytes.count
        if kept.count < limit { kept += bytes.prefix(limit - kept.count) }
    }
}
