import CLibpq

/// The answer to one statement: its rows, in binary format, and the number of affected rows.
///
/// It owns libpq's memory of the answer and frees it when the last reference is released. Rows and cells retain it.
public final class QueryResult: Sendable {
    // A PGresult never changes after libpq has returned it, and libpq allows any thread to read it. The pointer is
    // cleared once, in deinit, when no row or cell can refer to this object any more.
    nonisolated(unsafe) let pointer: OpaquePointer

    /// The number of rows returned.
    public let count: Int
    /// The names of the columns, in order.
    public let columns: [String]
    /// The types of the columns, as object identifiers.
    let types: [UInt32]
    /// The first column of each name.
    private let places: [String: Int]

    /// Takes ownership of `pointer`, a result with rows or the end of a command.
    init(owning pointer: OpaquePointer) {
        self.pointer = pointer
        count = Int(PQntuples(pointer))
        let fields = 0..<PQnfields(pointer)
        // PQfname returns nil only for a column outside 0..<PQnfields.
        columns = fields.map { field in PQfname(pointer, field).map { String(cString: $0) } ?? "" }
        types = fields.map { PQftype(pointer, $0) }
        places = Dictionary(zip(columns, columns.indices), uniquingKeysWith: { first, _ in first })
    }

    deinit {
        PQclear(pointer)
    }

    /// The rows that an INSERT, UPDATE, DELETE or MERGE changed, or that a SELECT returned; 0 for other commands.
    public var affectedRows: Int {
        Int(String(cString: PQcmdTuples(pointer))) ?? 0
    }

    /// The index of the first column called `name`.
    func index(ofColumn name: String) -> Int? {
        places[name]
    }
}

extension QueryResult: RandomAccessCollection {
    /// Always 0.
    public var startIndex: Int { 0 }
    /// The number of rows.
    public var endIndex: Int { count }

    /// The row `row`, which exists unless the server behaves unexpectedly.
    ///
    /// - Throws: ``PostgresError/Code/decoding`` when there is no such row.
    public func row(_ row: Int) throws(PostgresError) -> Row {
        guard indices.contains(row) else {
            throw PostgresError(.decoding, "the result has \(count) rows, and row \(row) was asked for")
        }
        return self[row]
    }

    /// The row `row`, which must be in `0..<count`.
    public subscript(row: Int) -> Row {
        precondition(row >= 0 && row < count, "row \(row) of a result with \(count) rows")
        return Row(result: self, index: row)
    }
}

/// One row of a result.
public struct Row: Sendable {
    let result: QueryResult
    let index: Int

    /// The cell in `column`, counted from 0. Reading a cell of a column that does not exist throws.
    public subscript(column: Int) -> Cell {
        Cell(result: result, row: index, column: result.columns.indices.contains(column) ? column : nil, name: nil)
    }

    /// The cell in the first column called exactly `name`. Reading a cell of a column that does not exist throws.
    public subscript(name: String) -> Cell {
        Cell(result: result, row: index, column: result.index(ofColumn: name), name: name)
    }
}
