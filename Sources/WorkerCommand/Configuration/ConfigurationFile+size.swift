import CYaml

extension ConfigurationFile {
    /// How many values a file may have after alias expansion.
    static let maxValues = 100_000

    /// How many values a text has after alias expansion, counted up to the first syntax error. The count saturates.
    ///
    /// A few lines of aliases to aliases can expand to billions of values, so they must be counted before anything
    /// compares or copies them. Reading the parser's events takes time proportional to the length of the text.
    static func values(in text: String) -> Int {
        let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
        defer { parser.deallocate() }
        guard yaml_parser_initialize(parser) == 1 else { return 0 }
        defer { yaml_parser_delete(parser) }

        var text = text
        return text.withUTF8 { bytes in
            yaml_parser_set_input_string(parser, bytes.baseAddress, bytes.count)
            var count = ValueCount()
            while count.total <= maxValues {
                var event = yaml_event_t()
                guard yaml_parser_parse(parser, &event) == 1 else { return count.total }
                defer { yaml_event_delete(&event) }
                if event.type == YAML_STREAM_END_EVENT { return count.total }
                count.take(event)
            }
            return count.total
        }
    }
}

/// The number of values, added up event by event.
private struct ValueCount {
    var total = 0
    /// How many values each anchor names, once its value has ended.
    private var sizes: [String: Int] = [:]
    /// The lists and mappings that have not ended: their anchors, and the total where they began.
    private var open: [(anchor: String?, start: Int)] = []

    mutating func take(_ event: yaml_event_t) {
        switch event.type {
        case YAML_SCALAR_EVENT:
            total += 1
            if let anchor = event.data.scalar.anchor { sizes[String(cString: anchor)] = 1 }
        case YAML_ALIAS_EVENT:
            let size = event.data.alias.anchor.flatMap { sizes[String(cString: $0)] } ?? 1
            total = total.addingReportingOverflow(size).overflow ? .max : total + size
        case YAML_SEQUENCE_START_EVENT:
            open.append((event.data.sequence_start.anchor.map { String(cString: $0) }, total))
            total += 1
        case YAML_MAPPING_START_EVENT:
            open.append((event.data.mapping_start.anchor.map { String(cString: $0) }, total))
            total += 1
        case YAML_SEQUENCE_END_EVENT, YAML_MAPPING_END_EVENT:
            guard let (anchor, start) = open.popLast(), let anchor else { return }
            sizes[anchor] = total - start
        default:
            break
        }
    }
}
