import Foundation

extension CircuitPolicy {
    /// The open time before jitter: `min(openCap, openFor · openFactor^reopened)`.
    ///
    /// - Parameter reopened: How often the circuit opened again since it was last closed. Any number is allowed.
    func longestOpenTime(reopened: Int) -> Duration {
        let grown = openFor.inSeconds * pow(openFactor, Double(max(0, reopened)))
        // A time too large for a Double is infinite, which is beyond every cap.
        return grown < openCap.inSeconds ? .seconds(grown) : openCap
    }

    /// How long the circuit stays open, with equal jitter: half of ``longestOpenTime(reopened:)`` is fixed and the
    /// other half random, so that circuits that opened together are not probed together. The formula is Finagle's.
    ///
    /// - Parameters:
    ///   - reopened: How often the circuit re-opened since it was last closed.
    ///   - retryAfter: How long the dependency asked to wait. It replaces the circuit's own time if it is longer, up to
    ///     the cap.
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
    /// - Parameter falseAlarms: How many false alarms preceded this one in quick succession; nil after an outage.
    func rampTime(falseAlarms: Int?) -> Duration {
        guard let falseAlarms else { return ramp }
        // This is computed in microseconds, as in the database.
        let micros = Double(ramp.wholeMicroseconds) * min(10, pow(2, Double(min(falseAlarms, 10))) / 8)
        return .microseconds(Int64(micros.rounded(.toNearestOrEven)))
    }

    /// The time after a false alarm within which another opening counts as a relapse: the length of the window, or a
    /// minute if the window is measured in calls.
    var relapseWindow: Duration {
        if case .time(let length) = window { length } else { .seconds(60) }
    }
}

extension Circuit.Ramp {
    /// How many of `concurrency` calls a circuit lets through while it ramps up: a tenth of them at first, and all at
    /// the end.
    ///
    /// - Parameters:
    ///   - concurrency: How many calls usually run at once.
    ///   - now: The time.
    func permits(of concurrency: Int, at now: Duration) -> Int {
        guard length > .zero else { return concurrency }
        // This uses integers, so that no rounding error adds one.
        let passed = max(.zero, length - (until - now)).attoseconds
        let share = (Int128(concurrency) * passed + length.attoseconds - 1) / length.attoseconds
        return min(concurrency, max((concurrency + 9) / 10, Int(share)))
    }
}

extension Duration {
    /// The duration in whole microseconds, rounded down.
    fileprivate var wholeMicroseconds: Int64 { Int64(attoseconds / 1_000_000_000_000) }
}
