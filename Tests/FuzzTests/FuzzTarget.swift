import Foundation

/// Code that reads input from outside, and the promises that must hold for any input.
///
/// The same targets run with seeded random input in the tests, and guided by coverage under `scripts/fuzz`.
struct FuzzTarget: Sendable {
    /// The name by which `scripts/fuzz` selects the target.
    var name: String
    /// Inputs from which mutation starts.
    var samples: [[UInt8]]
    /// Reads some input. Throws ``Broken`` if a promise does not hold. A crash also breaks a promise, but cannot be
    /// caught.
    var read: @Sendable ([UInt8]) throws -> Void

    /// Every target.
    static let all: [FuzzTarget] = [
        .duration, .time, .jsonPath, .yaml, .conninfo, .terminal, .result, .retryAfter, .url, .network, .errorLog,
        .stdioLine,
        .cell, .answer,
    ]

    /// Makes a target that reads texts. Bytes that are not UTF-8 are repaired.
    static func texts(
        _ name: String,
        _ samples: [String],
        _ read: @escaping @Sendable (String) throws -> Void
    ) -> FuzzTarget {
        FuzzTarget(name: name, samples: samples.map { Array($0.utf8) }) {
            try read(String(decoding: $0, as: UTF8.self))
        }
    }
}

/// A promise that did not hold.
struct Broken: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

/// Throws unless the condition holds.
func require(_ isMet: Bool, _ promise: @autoclosure () -> String) throws {
    if !isMet { throw Broken(promise()) }
}
