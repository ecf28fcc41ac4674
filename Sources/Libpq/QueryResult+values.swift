import CLibpq

public import FoundationEssentials

/// Values of results with many rows: each as the ``Cell`` of the row and column reads it, in a fraction of the time.
extension QueryResult {
    /// As ``Cell/int64()``.
    public func int64(_ row: Int, _ column: Int) throws(PostgresError) -> Int64 {
        guard let bytes = bytes(row, column) else { return try self[row][column].int64() }
        switch (types[column], bytes.count) {
        case (TypeOID.int8, 8): return Int64(bigEndian: bytes.loadUnaligned(as: Int64.self))
        case (TypeOID.int4, 4): return Int64(Int32(bigEndian: bytes.loadUnaligned(as: Int32.self)))
        case (TypeOID.int2, 2): return Int64(Int16(bigEndian: bytes.loadUnaligned(as: Int16.self)))
        default: return try self[row][column].int64()
        }
    }

    /// As ``Cell/bool()``.
    public func bool(_ row: Int, _ column: Int) throws(PostgresError) -> Bool {
        guard let bytes = bytes(row, column), types[column] == TypeOID.bool, bytes.count == 1 else {
            return try self[row][column].bool()
        }
        return bytes[0] != 0
    }

    /// As ``Cell/double()``.
    public func double(_ row: Int, _ column: Int) throws(PostgresError) -> Double {
        guard let bytes = bytes(row, column), types[column] == TypeOID.float8 else {
            return try self[row][column].double()
        }
        var reader = BinaryReader(bytes)
        guard let number = reader.float(), reader.isAtEnd else { return try self[row][column].double() }
        return number
    }

    /// As ``Cell/date()``.
    public func date(_ row: Int, _ column: Int) throws(PostgresError) -> Date {
        guard let bytes = bytes(row, column), types[column] == TypeOID.timestamptz else {
            return try self[row][column].date()
        }
        var reader = BinaryReader(bytes)
        guard let date = reader.timestamp(), reader.isAtEnd else { return try self[row][column].date() }
        return date
    }

    /// As ``Cell/tupleID()``.
    public func tupleID(_ row: Int, _ column: Int) throws(PostgresError) -> TupleID {
        guard let bytes = bytes(row, column), types[column] == TypeOID.tid else {
            return try self[row][column].tupleID()
        }
        var reader = BinaryReader(bytes)
        guard let tuple = reader.tupleID(), reader.isAtEnd else { return try self[row][column].tupleID() }
        return tuple
    }

    /// As ``Cell/string()``.
    public func string(_ row: Int, _ column: Int) throws(PostgresError) -> String {
        guard let bytes = bytes(row, column), let start = bytes.baseAddress else {
            return try self[row][column].string()
        }
        // libpq ends each value with a NUL, and neither type can hold one.
        let skipped =
            switch types[column] {
            case TypeOID.text, TypeOID.varchar: 0
            case TypeOID.jsonb where bytes.first == 1: 1
            default: bytes.count
            }
        guard skipped < bytes.count else { return try self[row][column].string() }
        let text = start.advanced(by: skipped).assumingMemoryBound(to: CChar.self)
        guard let string = String(validatingCString: text), string.utf8.count == bytes.count - skipped else {
            return try self[row][column].string()
        }
        return string
    }

    /// Whether the value is NULL. False for a column that is not there.
    public func isNull(_ row: Int, _ column: Int) -> Bool {
        columns.indices.contains(column) && PQgetisnull(pointer, Int32(row), Int32(column)) == 1
    }

    /// The bytes of a value; nil for NULL and for a column that is not there.
    private func bytes(_ row: Int, _ column: Int) -> UnsafeRawBufferPointer? {
        precondition(row >= 0 && row < count, "row \(row) of a result with \(count) rows")
        guard types.indices.contains(column) else { return nil }
        let (line, field) = (Int32(truncatingIfNeeded: row), Int32(truncatingIfNeeded: column))
        let length = PQgetlength(pointer, line, field)
        if length == 0, PQgetisnull(pointer, line, field) == 1 { return nil }
        return UnsafeRawBufferPointer(start: PQgetvalue(pointer, line, field), count: Int(length))
    }
}
