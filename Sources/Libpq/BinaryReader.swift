import FoundationEssentials

/// Reads values from bytes in Postgres's binary format, from front to back. A method returns nil if the bytes are not
/// such a value.
struct BinaryReader {
    private var bytes: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) {
        self.bytes = bytes
    }

    /// Whether all bytes have been read.
    var isAtEnd: Bool { bytes.isEmpty }

    static let integerTypes: Set<UInt32> = [TypeOID.int8, TypeOID.int4, TypeOID.int2, TypeOID.oid]
    static let textTypes: Set<UInt32> = [
        TypeOID.text, TypeOID.varchar, TypeOID.bpchar, TypeOID.char, TypeOID.name, TypeOID.json, TypeOID.jsonb,
        TypeOID.unknown,
    ]
    static let textArrayTypes: Set<UInt32> = [TypeOID.textArray, TypeOID.jsonbArray, 1015, 1003]

    /// Reads an integer of the width of `type`, the most significant byte first.
    mutating func integer<Integer: FixedWidthInteger>(_ type: Integer.Type) -> Integer? {
        guard let taken = read(count: MemoryLayout<Integer>.size) else { return nil }
        return Integer(bigEndian: taken.loadUnaligned(as: Integer.self))
    }

    /// Reads the remaining bytes as a signed integer of their width.
    mutating func signedInteger() -> Int64? {
        switch bytes.count {
        case 8: integer(Int64.self)
        case 4: integer(Int32.self).map { Int64($0) }
        case 2: integer(Int16.self).map { Int64($0) }
        default: nil
        }
    }

    /// Reads the remaining bytes as a floating-point number of their width.
    mutating func float() -> Double? {
        switch bytes.count {
        case 8: integer(UInt64.self).map { Double(bitPattern: $0) }
        case 4: integer(UInt32.self).map { Double(Float(bitPattern: $0)) }
        default: nil
        }
    }

    /// Reads the remaining bytes as a text, which must be UTF-8.
    mutating func text() -> String? {
        let taken = bytes
        bytes = UnsafeRawBufferPointer(rebasing: bytes[bytes.endIndex...])
        return String(validating: taken, as: UTF8.self)
    }

    /// Reads the remaining bytes as the text of a `jsonb`.
    mutating func jsonb() -> String? {
        guard integer(UInt8.self) == 1 else { return nil }
        return text()
    }

    /// Reads a copy of the remaining bytes.
    mutating func rest() -> [UInt8]? {
        read(count: bytes.count).map { Array($0) }
    }

    /// Reads the remaining bytes in place, without a copy.
    mutating func slice() -> UnsafeRawBufferPointer? { read(count: bytes.count) }

    /// Reads the location of a row in its table.
    mutating func tupleID() -> TupleID? {
        guard let block = integer(UInt32.self), let offset = integer(UInt16.self) else { return nil }
        return TupleID(block: block, offset: offset)
    }

    /// Reads a point in time.
    mutating func timestamp() -> Date? {
        guard let microseconds = integer(Int64.self) else { return nil }
        let seconds: Double =
            switch microseconds {
            case .max: .infinity
            case .min: -.infinity
            default: Double(microseconds) / 1_000_000 - TimestampEpoch.referenceDateOffset
            }
        return Date(timeIntervalSinceReferenceDate: seconds)
    }

    /// Reads an interval without months.
    mutating func interval() -> Duration? {
        guard let microseconds = integer(Int64.self), let days = integer(Int32.self), integer(Int32.self) == 0 else {
            return nil
        }
        return .seconds(Int64(days) * 86_400) + .microseconds(microseconds)
    }

    /// Reads an array with at most one dimension. Nil elements are NULL.
    mutating func array<Element>(_ element: (inout BinaryReader) -> Element?) -> [Element?]? {
        guard let dimensions = integer(Int32.self), integer(Int32.self) != nil, integer(UInt32.self) != nil else {
            return nil
        }
        if dimensions == 0 { return [] }
        // Each element begins with a length of 4 bytes, so a count above a quarter of the bytes is invalid.
        guard dimensions == 1, let count = integer(Int32.self), integer(Int32.self) != nil,
            count >= 0, Int(count) <= bytes.count / 4
        else { return nil }
        var values: [Element?] = []
        values.reserveCapacity(Int(count))
        for _ in 0..<count {
            guard let length = integer(Int32.self) else { return nil }
            if length < 0 {
                values.append(nil)
                continue
            }
            guard let taken = read(count: Int(length)) else { return nil }
            var reader = BinaryReader(taken)
            guard let value = element(&reader), reader.isAtEnd else { return nil }
            values.append(value)
        }
        return values
    }

    private mutating func read(count: Int) -> UnsafeRawBufferPointer? {
        guard count <= bytes.count else { return nil }
        let taken = UnsafeRawBufferPointer(rebasing: bytes[bytes.startIndex..<bytes.startIndex + count])
        bytes = UnsafeRawBufferPointer(rebasing: bytes[(bytes.startIndex + count)...])
        return taken
    }
}
