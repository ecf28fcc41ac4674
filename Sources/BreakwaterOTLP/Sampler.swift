/// Decides which traces are recorded, by one of OpenTelemetry's samplers.
enum Sampler: Sendable, Equatable {
    case alwaysOn, alwaysOff
    /// This share of traces, chosen by their ids, so that every service chooses the same traces.
    case ratio(Double)
    /// The same decision as for the parent. Without a parent, the other sampler decides.
    indirect case parentBased(Sampler)

    /// - Parameters:
    ///   - name: The value of `OTEL_TRACES_SAMPLER`.
    ///   - argument: The value of `OTEL_TRACES_SAMPLER_ARG`: a share from 0 to 1. Without a valid share, all traces are
    ///     recorded.
    /// - Returns: Nil for an unknown name.
    init?(name: String, argument: String?) {
        let share = argument.flatMap(Double.init).flatMap { (0...1).contains($0) ? $0 : nil } ?? 1
        switch name {
        case "always_on": self = .alwaysOn
        case "always_off": self = .alwaysOff
        case "traceidratio": self = .ratio(share)
        case "parentbased_always_on": self = .parentBased(.alwaysOn)
        case "parentbased_always_off": self = .parentBased(.alwaysOff)
        case "parentbased_traceidratio": self = .parentBased(.ratio(share))
        default: return nil
        }
    }

    func samples(trace: String, parent: SpanIdentity?) -> Bool {
        switch self {
        case .alwaysOn: true
        case .alwaysOff: false
        case .ratio(let share):
            // According to level 2 of the W3C's recommendation, the last seven bytes are random.
            Double(UInt64(trace.suffix(14), radix: 16) ?? 0) < share * Double(UInt64(1) << 56)
        case .parentBased(let root): parent?.isSampled ?? root.samples(trace: trace, parent: nil)
        }
    }
}
