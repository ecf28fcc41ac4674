import Foundation

extension CircuitPolicy {
    /// The open time before jitter: `min(openCap, openFor · openFactor^reopened)`.
    ///
    /// - Parameter reopened: How often the circuit re-opened since it was last closed. However large, nothing overflows.
    func longestOpenTime(reopened: Int) -> Duration {
        let grown = openFor.inSeconds * pow(openFactor, Double(max(0, reopened)))
        // Too large for a Double is infinite, which is beyond every cap.
        return grown < openCap.inSeconds ? .seconds(grown) : openCap
    }

    /// How long the circuit stays open, with equal jitter: half of ``longestOpenTime(reopened:)`` for certain, the other
    /// half by chance, so that circuits that opened together are not probed together. The formula is Finagle's.
    ///
    /// - Parameters:
    ///   - reopened: How often the circuit re-opened since it was last closed.
    ///   - retryAfter: How long the dependency asked to be left alone. A longer wait than the circuit's own goes before
    ///     it, up to the cap.
    ///   - generator: The source of the jitter.
    func openTime(
        reopened: Int,
        retryAfter: Duration? = nil,
        using generator: inout some RandomNumberGenerator
    ) -> Duration {
        let longest = longestOpenTime(reopened: reopened)
        let own = longest / 2 + longest / 2 * Double.random(in: 0...1, using: &generator)
        guard let retryAfter else { return own }
        return min(max(own, retryAfter), openCap)
    }

    /// How many of so many concurrent calls a circuit lets through while it ramps up: a tenth of them at first, and all in
    /// the end.
    ///
    /// - Parameters:
    ///   - concurrency: How many calls there are at once in good times.
    ///   - left: How much of ``ramp`` is left.
    func rampPermits(of concurrency: Int, left: Duration) -> Int {
        guard ramp > .zero else { return concurrency }
        // In whole numbers, so that no rounding adds one.
        let passed = max(.zero, ramp - left).attoseconds
        let share = (Int128(concurrency) * passed + ramp.attoseconds - 1) / ramp.attoseconds
        return min(concurrency, max((concurrency + 9) / 10, Int(share)))
    }
}
