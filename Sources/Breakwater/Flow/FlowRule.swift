/// A rule of flow control as a handler brings it to the database: an element of `flow` in its registration.
struct FlowRule: Encodable {
    enum RuleType: String, Encodable {
        case order, limit, adapt, share
    }

    /// The columns of `breakwater.flow_rule` that a configuration sets.
    struct Settings: Encodable {
        var keyPath: [String]?
        var concurrency: Int?
        /// The lowest concurrency of an adaptive limit.
        var least: Int?
        /// Starts a second.
        var rate: Double?
        var burst: Int?
        var weightPath: [String]?
        var onDead: String?

        private enum CodingKeys: String, CodingKey {
            case keyPath = "key_path"
            case concurrency, least, rate, burst
            case weightPath = "weight_path"
            case onDead = "on_dead"
        }
    }

    var type: RuleType
    var name: String
    var settings: Settings

    /// The rules of one kind.
    static func all(of kind: String, _ settings: HandlerSettings) -> [FlowRule] {
        var rules: [FlowRule] = []
        if let order = settings.order {
            let settings = Settings(keyPath: order.key, onDead: order.onDead.rawValue)
            rules.append(FlowRule(type: .order, name: kind, settings: settings))
        }
        for limit in settings.limits {
            let settings = Settings(
                keyPath: limit.key,
                concurrency: limit.concurrency,
                rate: limit.rate?.perSecond,
                burst: limit.burst,
                weightPath: limit.weight
            )
            rules.append(FlowRule(type: .limit, name: limit.fullName(of: kind), settings: settings))
        }
        if let bounds = settings.adapt {
            let settings = Settings(concurrency: bounds.upperBound, least: bounds.lowerBound)
            rules.append(FlowRule(type: .adapt, name: kind, settings: settings))
        }
        if let share = settings.share {
            rules.append(FlowRule(type: .share, name: kind, settings: Settings(keyPath: share)))
        }
        return rules
    }
}
