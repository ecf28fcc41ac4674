import CLibpq
import Glibc
import Libpq

@testable import Breakwater
@testable import Libpq

extension FuzzTarget {
    /// One value of a result. The first byte gives its type, and the rest is the value that the server sent.
    static let cell = FuzzTarget(
        name: "cell",
        samples: [
            [0, 0, 0, 0, 1],
            [6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8],
            [6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 1],
            [3, 1, 123, 125], [5, 0, 0, 0, 0, 0, 0, 0, 1, 0x7F, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
            [4, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        ]
    ) { bytes in
        guard let first = bytes.first else { return }
        let type = types[Int(first) % types.count]
        guard let result = MadeResult.rows([[(type, Array(bytes.dropFirst()))]]) else { return }
        readEverything(result[0][0])
    }

    /// A whole answer to each call that a worker makes. Each column has two bytes for its length, one for its type, and
    /// its value.
    static let answer = FuzzTarget(
        name: "answer",
        samples: [[0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0, 1, 2, 1, 0, 4, 7, 0, 0, 0, 0], []]
    ) { bytes in
        var columns: [(type: UInt32, value: [UInt8]?)] = []
        var rest = bytes[...]
        while rest.count >= 3, columns.count < 20 {
            let length = Int(rest.removeFirst()) << 8 | Int(rest.removeFirst())
            let type = types[Int(rest.removeFirst()) % types.count]
            columns.append((type, length == 0xFFFF ? nil : Array(rest.prefix(length))))
            rest = rest.dropFirst(length)
        }
        guard let result = MadeResult.rows(columns.isEmpty ? [] : [columns]) else { return }
        decodeAsEveryCall(result)
    }

    static let types: [UInt32] = [
        TypeOID.int4, TypeOID.int8, TypeOID.bool, TypeOID.jsonb, TypeOID.timestamptz, TypeOID.interval,
        TypeOID.int8Array, TypeOID.textArray, TypeOID.float8, TypeOID.text, TypeOID.bytea, TypeOID.float8Array,
        TypeOID.boolArray, TypeOID.intervalArray, TypeOID.jsonbArray, TypeOID.int2, TypeOID.oid, TypeOID.float4,
        TypeOID.int2Array, 0,
    ]

    /// Reads a value as every type. A value that does not fit throws.
    private static func readEverything(_ cell: Cell) {
        _ = try? cell.int64()
        _ = try? cell.int32OrNil()
        _ = try? cell.int()
        _ = try? cell.bool()
        _ = try? cell.double()
        _ = try? cell.seconds()
        _ = try? cell.string()
        _ = try? cell.bytes()
        _ = try? cell.date()
        _ = try? cell.interval()
        _ = try? cell.int64OptionalArrayOrNil()
        _ = try? cell.stringOptionalArrayOrNil()
        _ = try? cell.doubleArray()
        _ = try? cell.boolArray()
        _ = try? cell.intervalOptionalArray()
        _ = try? cell.dateArray()
        _ = try? cell.tupleIDArray()
        _ = (try? cell.textSlices())?.map(\.text)
    }

    /// Reads a result as the answer to each call that a worker makes.
    private static func decodeAsEveryCall(_ result: QueryResult) {
        let lane = Lane(queue: "q", kind: "k", priority: 5)
        let configuration = WorkerConfiguration(database: ConnectionOptions(""), handlers: [])
        let claim = Claim(worker: 1, lanes: [lane], room: [("k", 1, concurrency: 1)], total: 1)
        _ = try? claim.decode(result)
        _ = try? ClaimSuspects(worker: 1).decode(result)
        _ = try? Register(configuration: configuration).decode(result)
        _ = try? Beat(worker: 1, isDraining: false, running: 0).decode(result)
        if let done = try? Maintain(worker: 1, term: .seconds(5)).decode(result) {
            _ = MaintenanceService.pause(after: done)
        }
        _ = try? Reconcile(worker: 1, known: []).decode(result)
        _ = try? Leave(worker: 1).decode(result)
        _ = try? Settle(worker: 1, runs: [], claims: []).decode(result)
        Flush(worker: 1).decode(result)
    }
}

/// Results as libpq would make them from a server's answer.
enum MadeResult {
    /// A result with these rows, in binary format. A nil value is NULL.
    static func rows(_ rows: [[(type: UInt32, value: [UInt8]?)]]) -> QueryResult? {
        guard let pointer = PQmakeEmptyPGresult(nil, PGRES_TUPLES_OK) else { return nil }
        let columns = rows.first ?? []
        // libpq copies the names.
        let name = strdup("c")
        defer { free(name) }
        var attributes = columns.map { column in
            PGresAttDesc(
                name: name,
                tableid: 0,
                columnid: 0,
                format: 1,
                typid: column.type,
                typlen: -1,
                atttypmod: -1
            )
        }
        if !columns.isEmpty { PQsetResultAttrs(pointer, Int32(columns.count), &attributes) }
        for (row, values) in rows.enumerated() {
            for (column, value) in values.enumerated() {
                var bytes = (value.value ?? []).map { CChar(bitPattern: $0) }
                let length = value.value == nil ? -1 : Int32(bytes.count)
                PQsetvalue(pointer, Int32(row), Int32(column), &bytes, length)
            }
        }
        return QueryResult(owning: pointer)
    }
}
