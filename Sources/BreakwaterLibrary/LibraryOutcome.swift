import Breakwater
import CBreakwaterHandler

/// The beginning of a text that a library gave, and the length of the whole text.
struct BoundedText {
    var bytes: [UInt8]
    var length: Int

    var isCut: Bool { length > bytes.count }
    /// The text as Postgres can store it.
    var text: String { JobResult.text(from: bytes, isCut: isCut) }

    /// A length beyond this can only be a mistake, such as a negative number.
    private static let longest: UInt64 = 1 << 40

    /// Copies a text.
    ///
    /// - Parameters:
    ///   - pointer: Where it begins; nil for no text.
    ///   - length: Its length in bytes.
    ///   - limit: How many bytes are copied.
    /// - Returns: nil if there cannot be such a text.
    init?(_ pointer: UnsafePointer<CChar>?, length: UInt64, limit: Int) {
        guard length <= Self.longest else { return nil }
        self.length = Int(length)
        guard let pointer else {
            guard length == 0 else { return nil }
            bytes = []
            return
        }
        bytes = Array(UnsafeRawBufferPointer(start: pointer, count: min(self.length, limit)))
    }

    init?(_ text: breakwater_text, limit: Int) { self.init(text.bytes, length: text.length, limit: limit) }
}

/// What is wrong with an outcome, as the end of a sentence.
struct OutcomeFault: Error {
    var message: String

    init(_ message: String) { self.message = message }
}

extension JobOutcome {
    /// The longest name of a failure, in bytes.
    private static let longestName = 200
    /// How much of a message is copied. Even less of it is stored.
    private static let longestMessage = 64 << 10
    /// The longest time that a library can ask for, in milliseconds: ten years.
    private static let longestDelay: Int64 = 86_400_000 * 3650

    /// Reads and copies an outcome that a library set.
    ///
    /// - Parameters:
    ///   - pointer: The outcome.
    ///   - maxResultBytes: How many bytes of a result are kept.
    /// - Returns: The outcome; the length of the result if it was cut.
    static func read(
        _ pointer: UnsafePointer<breakwater_outcome>?,
        maxResultBytes: Int
    ) throws(OutcomeFault) -> (outcome: JobOutcome, cutResult: Int?) {
        guard let pointer else { throw OutcomeFault("it is NULL") }
        let size = pointer.pointee.struct_size
        guard size >= MemoryLayout<breakwater_outcome>.size else {
            throw OutcomeFault("its struct_size is \(size), not sizeof(breakwater_outcome)")
        }
        let given = pointer.pointee
        guard given.retry_after_ms >= 0 else {
            throw OutcomeFault("its retry_after_ms is \(given.retry_after_ms), which is below 0")
        }
        let delay =
            given.retry_after_ms == 0
            ? nil : Duration.milliseconds(min(given.retry_after_ms, longestDelay))
        switch given.outcome {
        case BREAKWATER_SUCCEEDED:
            guard let result = BoundedText(given.result, limit: maxResultBytes) else {
                throw OutcomeFault("its result has no text, or a length that cannot be")
            }
            let json = given.result.bytes == nil ? nil : JobResult.json(from: result.bytes, isCut: result.isCut)
            return (.succeeded(result: json), result.isCut ? result.length : nil)
        case BREAKWATER_RELEASED: return (.released, nil)
        case BREAKWATER_SNOOZED:
            guard let delay else { throw OutcomeFault("it is snoozed without a retry_after_ms above 0") }
            return (.snoozed(delay), nil)
        case BREAKWATER_UNAVAILABLE: return (.unavailable(try failure(given), retryAfter: delay), nil)
        case BREAKWATER_THROTTLED: return (.throttled(try failure(given), retryAfter: delay ?? .zero), nil)
        case BREAKWATER_FAILED, BREAKWATER_DISCARDED, BREAKWATER_UNABLE:
            guard delay == nil else {
                throw OutcomeFault(
                    "it has a retry_after_ms, which only unavailable, throttled and snoozed outcomes have"
                )
            }
            let failure = try failure(given)
            return switch given.outcome {
            case BREAKWATER_DISCARDED: (.discarded(failure), nil)
            case BREAKWATER_UNABLE: (.unable(failure), nil)
            default: (.failed(failure), nil)
            }
        default: throw OutcomeFault("there is no outcome \(given.outcome)")
        }
    }

    private static func failure(_ outcome: breakwater_outcome) throws(OutcomeFault) -> JobFailure {
        guard let name = BoundedText(outcome.name, limit: longestName), !name.isCut, !name.text.isEmpty else {
            throw OutcomeFault("its name is not a text of 1 to \(longestName) bytes")
        }
        guard let message = BoundedText(outcome.message, limit: longestMessage) else {
            throw OutcomeFault("its message has no text, or a length that cannot be")
        }
        return JobFailure(name.text, message.text)
    }
}
