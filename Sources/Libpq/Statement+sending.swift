import CLibpq

extension Statement {
    /// Passes the statement to libpq, with binary parameters and a binary result. Returns false when libpq refuses it.
    func send(on connection: OpaquePointer) -> Bool {
        // All values are in one block of memory. Its last byte belongs to no value, so that an empty value at its end
        // has an address too.
        var block: [UInt8] = []
        block.reserveCapacity(parameters.reduce(1) { $0 + ($1.bytes?.count ?? 0) })
        for parameter in parameters { block.append(contentsOf: parameter.bytes ?? []) }
        block.append(0)

        let lengths = parameters.map { Int32(truncatingIfNeeded: $0.bytes?.count ?? 0) }
        let formats = [Int32](repeating: 1, count: parameters.count)
        let count = Int32(truncatingIfNeeded: parameters.count)
        return block.withUnsafeBytes { block in
            var offset = 0
            let values = parameters.map { parameter -> UnsafePointer<CChar>? in
                guard let bytes = parameter.bytes else { return nil }
                defer { offset += bytes.count }
                return block.baseAddress?.advanced(by: offset).assumingMemoryBound(to: CChar.self)
            }
            switch source {
            case .text(let sql):
                let types = parameters.map(\.oid)
                return PQsendQueryParams(connection, sql, count, types, values, lengths, formats, 1) == 1
            case .prepared(let name):
                return PQsendQueryPrepared(connection, name, count, values, lengths, formats, 1) == 1
            }
        }
    }
}
