/// A text inside an answer. It keeps the whole answer in memory.
package struct TextSlice: Sendable {
    private let result: QueryResult
    private let row: Int32
    private let column: Int32
    private let offset: Int
    private let length: Int

    /// The length in bytes of UTF-8.
    package var byteCount: Int { length }

    init(cell: Cell, offset: Int, length: Int) {
        result = cell.result
        row = Int32(truncatingIfNeeded: cell.row)
        column = Int32(truncatingIfNeeded: cell.column ?? 0)
        self.offset = offset
        self.length = length
    }

    /// A copy of the text; nil if it is not valid UTF-8, which the server never sends.
    package var text: String? {
        guard let bytes = try? result[Int(row)][Int(column)].raw(), offset + length <= bytes.count else { return nil }
        return String(validating: UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + length]), as: UTF8.self)
    }
}
