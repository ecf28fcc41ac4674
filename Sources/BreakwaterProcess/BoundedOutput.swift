/// The beginning of a program's output, and the length of the whole output.
package struct BoundedOutput: Sendable {
    package let limit: Int
    package private(set) var kept: [UInt8] = []
    package private(set) var written = 0

    package init(limit: Int) {
        self.limit = limit
    }

    package var isCut: Bool { written > kept.count }

    package mutating func append(_ bytes: [UInt8]) {
        written += bytes.count
        if kept.count < limit { kept += bytes.prefix(limit - kept.count) }
    }
}
