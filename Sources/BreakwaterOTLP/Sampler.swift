/// Which traces are recorded: the samplers that OpenTelemetry names.
enum Sampler: Sendable, Equatable {
    case alwaysOn, alwaysOff
    /// This share of traces, chosen by their ids, so that every service chooses the same.
    case ratio(Double)
    /// As the parent was; the other where there is no parent.
    indirect case parentBased(Sampler)

    /// - Parameters:
    ///   - name: As in `OTEL_TRACES_SAMPLER`.
    ///   - argument: As in `OTEL_TRACES_SAMPLER_ARG`: a share from 0 to 1; everything when it is none.
    /// - Returns: Nil for a name that is not known.
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
            // The last seven bytes are random, by the W3C's level 2.
            Double(UInt64(trace.suffix(14), radix: 16) ?? 0) < share * Double(UInt64(1) << 56)
        case .parentBased(let root): parent?.isSampled ?? root.samples(trace: trace, parent: nil)
        }
    }
}
