import Foundation

extension CircuitPolicy {
    /// The open time before jitter: `min(openCap, openFor · openFactor^reopened)`.
    ///
    /// - Parameter reopened: How often the circuit re-opened since it was last closed. However large, nothing
    ///   overflows.
    func longestOpenTime(reopened: Int) -> Duration {
        let grown = openFor.inSeconds * pow(openFactor, Double(max(0, reopened)))
        // A time too large for a Double is infinite, which is beyond every cap.
        return grown < openCap.inSeconds ? .seconds(grown) : openCap
    }

    /// How long the circuit stays open, with equal jitter: half of ``longestOpenTime(reopened:)`` for certain, the
    /// other half by chance, so that circuits that opened together are not probed together. The formula is Finagle's.
    ///
    /// - Parameters:
    ///   - reopened: How often the circuit re-opened since it was last closed.
    ///   - retryAfter: How long the dependency asked to be left alone. It replaces the circuit's own time if it is
    ///     longer, up to the cap.
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

    /// How long admission ramps up after the circuit has closed: ``ramp`` after an outage. After a false alarm it takes
    /// an eighth of that, doubled for each further false alarm soon after, up to ten times ``ramp``.
    ///
    /// - Parameter falseAlarms: How many came before this false alarm, soon after one another; nil after an outage.
    func rampTime(falseAlarms: Int?) -> Duration {
        guard let falseAlarms else { return ramp }
        // In the microseconds that the database counts in.
        let micros = Double(ramp.wholeMicroseconds) * min(10, pow(2, Double(min(falseAlarms, 10))) / 8)
        return .microseconds(Int64(micros.rounded(.toNearestOrEven)))
    }

    /// A circuit that opens this soon after a false alarm has relapsed: within its window, or within a minute if that
    /// window is measured in calls.
    var relapseWindow: Duration {
        if case .time(let length) = window { length } else { .seconds(60) }
    }
}

extension Circuit.Ramp {
    /// How many of `concurrency` calls a circuit lets through while it ramps up: a tenth of them at first, and all in
    /// the end.
    ///
    /// - Parameters:
    ///   - concurrency: How many calls there are at once in good times.
    ///   - now: The time.
    func permits(of concurrency: Int, at now: Duration) -> Int {
        guard length > .zero else { return concurrency }
        // In whole numbers, so that no rounding adds one.
        let passed = max(.zero, length - (until - now)).attoseconds
        let share = (Int128(concurrency) * passed + length.attoseconds - 1) / length.attoseconds
        return min(concurrency, max((concurrency + 9) / 10, Int(share)))
    }
}

extension Duration {
    /// In microseconds, without what is less than one.
    fileprivate var wholeMicroseconds: Int64 { Int64(attoseconds / 1_000_000_000_000) }
}
