import FoundationEssentials

/// Writes bytes in Postgres's binary format, and keeps the first reason why they cannot be sent.
struct BinaryWriter {
    private(set) var bytes: [UInt8] = []
    private(set) var problem: String?

    /// Writes an integer of any width, the most significant byte first.
    mutating func integer<Integer: FixedWidthInteger>(_ value: Integer) {
        withUnsafeBytes(of: value.bigEndian) { bytes.append(contentsOf: $0) }
    }

    /// Writes a text, which must not contain U+0000.
    mutating func text(_ value: String) {
        let start = bytes.count
        bytes.append(contentsOf: value.utf8)
        if bytes[start...].contains(0) { refuse("the text contains U+0000, which Postgres cannot store") }
    }

    /// Writes a JSON text as `jsonb`: the version of the format, then the text.
    mutating func jsonb(_ value: String) {
        bytes.append(1)
        text(value)
    }

    /// Writes an interval: microseconds, days, months.
    mutating func interval(_ value: Duration) {
        let (seconds, attoseconds) = value.components
        let scaled = seconds.multipliedReportingOverflow(by: 1_000_000)
        let total = scaled.partialValue.addingReportingOverflow(attoseconds / 1_000_000_000_000)
        if scaled.overflow || total.overflow { refuse("the duration \(value) is too long for an interval") }
        integer(total.partialValue)
        integer(Int32(0))
        integer(Int32(0))
    }

    /// Writes a point in time: microseconds since 2000-01-01 00:00 UTC. The extreme integers are the infinities.
    mutating func timestamp(_ value: Date) {
        let seconds = value.timeIntervalSinceReferenceDate
        if seconds.isInfinite { return integer(seconds > 0 ? Int64.max : Int64.min) }
        let microseconds = ((seconds + TimestampEpoch.referenceDateOffset) * 1_000_000).rounded()
        guard TimestampEpoch.range.contains(microseconds) else {
            return refuse("the date lies outside the years -4713 to 294276 that Postgres knows")
        }
        integer(Int64(microseconds))
    }

    /// Writes an element of an array: its length, then the bytes that `write` writes.
    mutating func element(_ index: Int, _ write: (inout BinaryWriter) -> Void) {
        let start = bytes.count
        let hadProblem = problem != nil
        integer(Int32(0))
        write(&self)
        let length = Int32(truncatingIfNeeded: bytes.count - start - 4)
        withUnsafeBytes(of: length.bigEndian) { bytes.replaceSubrange(start..<start + 4, with: $0) }
        if !hadProblem, let problem { self.problem = "element \(index): \(problem)" }
    }

    private mutating func refuse(_ why: String) {
        if problem == nil { problem = why }
    }
}

/// The epoch of Postgres's timestamps, which are microseconds since 2000-01-01 00:00 UTC (`datatype/timestamp.h`).
enum TimestampEpoch {
    /// Seconds from Postgres's epoch to Foundation's reference date, 2001-01-01 (2000 was a leap year).
    static let referenceDateOffset = 366.0 * 86_400
    /// `MIN_TIMESTAMP` and `END_TIMESTAMP`.
    static let range = -211_813_488_000_000_000.0..<9_223_371_331_200_000_000.0
}
