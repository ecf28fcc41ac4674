public import FoundationEssentials

extension Cell {
    /// An `int2[]`, `int4[]` or `int8[]` without NULLs.
    public func int64Array() throws(PostgresError) -> [Int64] { try required(int64ArrayOrNil(), "int8[]") }

    /// An `int2[]`, `int4[]` or `int8[]` without NULLs; nil is NULL.
    public func int64ArrayOrNil() throws(PostgresError) -> [Int64]? {
        try withoutNulls("int8[]", int64OptionalArrayOrNil())
    }

    /// An `int2[]`, `int4[]` or `int8[]`, with nil for its NULLs; nil is NULL.
    public func int64OptionalArrayOrNil() throws(PostgresError) -> [Int64?]? {
        try decode("int8[]", [TypeOID.int8Array, TypeOID.int4Array, TypeOID.int2Array]) {
            $0.array { $0.signedInteger() }
        }
    }

    /// A `text[]`, `varchar[]`, `name[]` or `jsonb[]` without NULLs.
    public func stringArray() throws(PostgresError) -> [String] { try required(stringArrayOrNil(), "text[]") }

    /// A `text[]`, `varchar[]`, `name[]` or `jsonb[]` without NULLs; nil is NULL.
    public func stringArrayOrNil() throws(PostgresError) -> [String]? {
        try withoutNulls("text[]", stringOptionalArrayOrNil())
    }

    /// A `text[]`, `varchar[]`, `name[]` or `jsonb[]`, with nil for its NULLs; nil is NULL.
    public func stringOptionalArrayOrNil() throws(PostgresError) -> [String?]? {
        let isJSONB = type == TypeOID.jsonbArray
        return try decode("text[]", BinaryReader.textArrayTypes) {
            $0.array { isJSONB ? $0.jsonb() : $0.text() }
        }
    }

    /// A `float8[]` without NULLs.
    public func doubleArray() throws(PostgresError) -> [Double] {
        let values = try decode("float8[]", [TypeOID.float8Array]) { $0.array { $0.float() } }
        return try required(withoutNulls("float8[]", values), "float8[]")
    }

    /// A `bool[]` without NULLs.
    public func boolArray() throws(PostgresError) -> [Bool] {
        let values = try decode("bool[]", [TypeOID.boolArray]) {
            $0.array { $0.integer(UInt8.self).map { $0 != 0 } }
        }
        return try required(withoutNulls("bool[]", values), "bool[]")
    }

    /// An `interval[]` whose elements have no months; nil for its NULLs.
    public func intervalOptionalArray() throws(PostgresError) -> [Duration?] {
        let values = try decode("interval[]", [TypeOID.intervalArray]) { $0.array { $0.interval() } }
        return try required(values, "interval[]")
    }

    /// A `timestamptz[]` without NULLs. An infinite date is at an infinite distance from the reference date.
    public func dateArray() throws(PostgresError) -> [Date] {
        let values = try decode("timestamptz[]", [TypeOID.timestamptzArray]) { $0.array { $0.timestamp() } }
        return try required(withoutNulls("timestamptz[]", values), "timestamptz[]")
    }

    /// A `tid[]` without NULLs: the locations of rows in their table.
    package func tupleIDArray() throws(PostgresError) -> [TupleID] {
        let values = try decode("tid[]", [TypeOID.tidArray]) { $0.array { $0.tupleID() } }
        return try required(withoutNulls("tid[]", values), "tid[]")
    }

    /// A `text[]` without NULLs, whose texts are copied out of the answer only when they are read.
    package func textSlices() throws(PostgresError) -> [TextSlice] {
        let start = try raw()?.baseAddress
        let values: [TextSlice?]? = try decode("text[]", [TypeOID.textArray]) { reader in
            reader.array { element -> TextSlice? in
                guard let start, let bytes = element.slice() else { return nil }
                let offset = bytes.baseAddress.map { start.distance(to: $0) } ?? 0
                return TextSlice(cell: self, offset: offset, length: bytes.count)
            }
        }
        return try required(withoutNulls("text[]", values), "text[]")
    }

    private func withoutNulls<Element>(
        _ wanted: String,
        _ values: [Element?]?
    ) throws(PostgresError) -> [Element]? {
        guard let values else { return nil }
        let present = values.compactMap(\.self)
        guard present.count == values.count else { throw failure(wanted, "it has NULL elements") }
        return present
    }
}
