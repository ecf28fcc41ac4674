extension Parameter {
    /// An `int8[]`.
    public static func int8Array(_ values: [Int64]) -> Parameter {
        integers(TypeOID.int8Array, of: TypeOID.int8, values)
    }

    /// A `tid[]`.
    package static func tupleIDArray(_ values: [TupleID]) -> Parameter {
        array(TypeOID.tidArray, of: TypeOID.tid, values) {
            $1.integer($0.block)
            $1.integer($0.offset)
        }
    }

    /// An `int8[]` with NULLs.
    public static func int8OptionalArray(_ values: [Int64?]) -> Parameter {
        array(TypeOID.int8Array, of: TypeOID.int8, values) { $1.integer($0) }
    }

    /// An `int4[]`.
    public static func int4Array(_ values: [Int32]) -> Parameter {
        integers(TypeOID.int4Array, of: TypeOID.int4, values)
    }

    /// An `int2[]`.
    public static func int2Array(_ values: [Int16]) -> Parameter {
        integers(TypeOID.int2Array, of: TypeOID.int2, values)
    }

    /// A `bool[]`.
    public static func boolArray(_ values: [Bool]) -> Parameter {
        array(TypeOID.boolArray, of: TypeOID.bool, values) { $1.integer($0 ? UInt8(1) : 0) }
    }

    /// A `float8[]`.
    public static func float8Array(_ values: [Double]) -> Parameter {
        array(TypeOID.float8Array, of: TypeOID.float8, values) { $1.integer($0.bitPattern) }
    }

    /// A `text[]`, with NULLs where an element is nil.
    public static func textArray(_ values: [String?]) -> Parameter {
        array(TypeOID.textArray, of: TypeOID.text, values) { $1.text($0) }
    }

    /// A `jsonb[]` of texts of JSON, with NULLs where an element is nil.
    public static func jsonbArray(_ values: [String?]) -> Parameter {
        array(TypeOID.jsonbArray, of: TypeOID.jsonb, values) { $1.jsonb($0) }
    }

    /// An `interval[]`, with NULLs where an element is nil.
    public static func intervalArray(_ values: [Duration?]) -> Parameter {
        array(TypeOID.intervalArray, of: TypeOID.interval, values) { $1.interval($0) }
    }

    /// A faster version of `array` for integers, which may be thousands, have the same length, and are never NULL.
    private static func integers<Element: FixedWidthInteger>(
        _ oid: UInt32,
        of element: UInt32,
        _ values: [Element]
    ) -> Parameter {
        guard !values.isEmpty else { return array(oid, of: element, values) { $1.integer($0) } }
        let header = [1, 0, Int32(bitPattern: element), Int32(truncatingIfNeeded: values.count), 1]
        let width = MemoryLayout<Element>.size
        let size = 4 * header.count + values.count * (4 + width)
        let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            var offset = 0
            for word in header {
                raw.storeBytes(of: word.bigEndian, toByteOffset: offset, as: Int32.self)
                offset += 4
            }
            let length = Int32(width).bigEndian
            for value in values {
                raw.storeBytes(of: length, toByteOffset: offset, as: Int32.self)
                raw.storeBytes(of: value.bigEndian, toByteOffset: offset + 4, as: Element.self)
                offset += 4 + width
            }
            count = size
        }
        return Parameter(oid: oid, bytes: bytes)
    }

    /// An array with one dimension and the lower bound 1 (`array_send` in Postgres's `arrayfuncs.c`): the number of
    /// dimensions, whether there are NULLs, the elements' type, then each dimension's length and lower bound, then
    /// each element with its length. An empty array has no dimension at all.
    private static func array<Element>(
        _ oid: UInt32,
        of element: UInt32,
        _ values: [Element?],
        _ write: (Element, inout BinaryWriter) -> Void
    ) -> Parameter {
        var writer = BinaryWriter()
        writer.integer(Int32(values.isEmpty ? 0 : 1))
        writer.integer(Int32(values.contains { $0 == nil } ? 1 : 0))
        writer.integer(element)
        guard !values.isEmpty else { return Parameter(oid: oid, bytes: writer.bytes) }
        writer.integer(Int32(truncatingIfNeeded: values.count))
        writer.integer(Int32(1))
        for (index, value) in values.enumerated() {
            guard let value else {
                writer.integer(Int32(-1))
                continue
            }
            writer.element(index) { write(value, &$0) }
        }
        return Parameter(oid: oid, bytes: writer.bytes, problem: writer.problem)
    }
}
