/// How much of a running job's work is done, as a bar, with what is being done; nothing if neither is known.
@HTMLBuilder func progressBar(_ fraction: Double?, _ note: String?) -> HTML {
    if let fraction {
        Pictures.gauge(fraction, threshold: nil, label: "\(percent(fraction)) % done")
    }
    if fraction != nil || note != nil {
        let parts = [fraction.map { "\(percent($0)) %" }, note].compactMap { $0 }
        el(.span, .class("sub block"), text: parts.joined(separator: ": "))
    }
}

private func percent(_ fraction: Double) -> Int { Int((fraction * 100).rounded(.down)) }
