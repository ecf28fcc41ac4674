import CLibpq

extension Cell {
    /// The type of the column.
    var type: UInt32 {
        column.map { result.types[$0] } ?? TypeOID.unspecified
    }

    /// Reads the value with `body`, which returns nil when the bytes are not such a value. Returns nil for NULL.
    func decode<Value>(
        _ wanted: String,
        _ types: Set<UInt32>,
        _ body: (inout BinaryReader) -> Value?
    ) throws(PostgresError) -> Value? {
        // The result is held by `self`, which lives until `body` has returned a copy.
        guard let bytes = try raw() else { return nil }
        guard types.contains(type) else { throw failure(wanted, "the types do not match") }
        var reader = BinaryReader(bytes)
        guard let value = body(&reader), reader.isAtEnd else {
            throw failure(wanted, "its \(bytes.count) bytes are not such a value")
        }
        return value
    }

    /// Any integer type, widened.
    func integer(_ wanted: String) throws(PostgresError) -> Int64? {
        let isOID = type == TypeOID.oid
        return try decode(wanted, BinaryReader.integerTypes) { reader in
            isOID ? reader.integer(UInt32.self).map { Int64($0) } : reader.signedInteger()
        }
    }

    /// Returns `value`, and throws if it is NULL.
    func required<Value>(_ value: Value?, _ wanted: String) throws(PostgresError) -> Value {
        guard let value else { throw failure(wanted, "it is NULL") }
        return value
    }

    /// The value's bytes, which live as long as the result; nil for NULL. Throws when there is no such column.
    func raw() throws(PostgresError) -> UnsafeRawBufferPointer? {
        guard let column else { throw failure("", "") }
        let (line, field) = (Int32(row), Int32(column))
        if PQgetisnull(result.pointer, line, field) == 1 { return nil }
        return UnsafeRawBufferPointer(
            start: PQgetvalue(result.pointer, line, field),
            count: Int(PQgetlength(result.pointer, line, field))
        )
    }

    /// The error with the reason why the value cannot be read as `wanted`.
    func failure(_ wanted: String, _ why: String) -> PostgresError {
        guard let column else {
            let asked = name.map { "column \"\($0)\"" } ?? "such column"
            return PostgresError(
                .decoding,
                "the result has no \(asked); it has \(result.columns.map { "\"\($0)\"" }.joined(separator: ", "))"
            )
        }
        return PostgresError(
            .decoding,
            "column \"\(result.columns[column])\" of type \(TypeOID.name(of: type)) cannot be read as \(wanted): \(why)"
        )
    }
}
