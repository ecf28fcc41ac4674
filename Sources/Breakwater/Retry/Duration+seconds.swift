extension Duration {
    /// This duration in seconds, including fractions.
    package var inSeconds: Double {
        let (seconds, attoseconds) = components
        return Double(seconds) + Double(attoseconds) * 1e-18
    }

    /// This duration in whole milliseconds, rounded up.
    package var inMilliseconds: Int64 { Int64((inSeconds * 1000).rounded(.up)) }
}
