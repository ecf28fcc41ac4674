import Foundation
package import Libpq

/// `breakwater.register`: registers a worker with the rules of its handlers. Answers with the worker's number.
package struct Register: StoreCall {
    package var configuration: WorkerConfiguration

    package var statement: Statement {
        Statement(
            "select breakwater.register($1, $2, $3, $4, $5, $6)",
            [
                .text(configuration.name),
                .text(breakwaterVersion),
                .textArray(configuration.queues),
                .int4(Int32(clamping: configuration.concurrency)),
                .float8(configuration.lease.inSeconds),
                configuration.policies,
            ]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Int64 { try result.row(0)[0].int64() }

}

/// `breakwater.renew_registration`: restores the rows of a worker's registration after they were deleted.
package struct RenewRegistration: StoreCall {
    package var worker: Int64
    package var configuration: WorkerConfiguration

    package var statement: Statement {
        Statement("select breakwater.renew_registration($1, $2)", [.int8(worker), configuration.policies])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) {}
}

extension WorkerConfiguration {
    /// The rules of the handlers, as `breakwater.register` takes them.
    fileprivate var policies: Parameter {
        let rows = handlers.map { HandlerRow($0.kind, $0.settings) }
        // Encoding numbers, strings and optionals of them cannot fail: infinities are refused with the configuration.
        let data = (try? JSONEncoder().encode(rows)) ?? Data("[]".utf8)
        return .jsonb(String(decoding: data, as: UTF8.self))
    }
}

/// `breakwater.beat`: a worker's sign of life.
package struct Beat: StoreCall {
    package var worker: Int64
    package var isDraining: Bool
    package var running: Int
    /// Runs that go on long after they were cancelled.
    package var unresponsive = 0

    package struct Output: Sendable {
        /// False when this worker's jobs have been given to others.
        package var isAlive: Bool
        /// For each kind whose circuit is not closed, the circuit's generation; for a kind that this worker may not run
        /// for another reason (it is paused, suspended or drained), the highest number.
        package var stopped: [String: Int64]
        /// Whether this worker should make itself free for a suspect.
        package var hostsSuspect: Bool
        /// Whether no other worker takes this one's jobs.
        package var isSoleConsumer: Bool
        /// False when rows of its registration are missing, which it must renew.
        package var isRegistered = true
    }

    package var statement: Statement {
        Statement(
            "select alive, stopped, generations, hosts, is_sole, registered from breakwater.beat($1, $2, $3, $4)",
            [
                .int8(worker), .text(isDraining ? "draining" : "running"), .int4(Int32(clamping: running)),
                .int4(Int32(clamping: unresponsive)),
            ]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Output {
        let row = try result.row(0)
        return Output(
            isAlive: try row[0].bool(),
            stopped: try row.stoppedKinds(from: 1),
            hostsSuspect: try row[3].bool(),
            isSoleConsumer: try row[4].bool(),
            isRegistered: try row[5].bool()
        )
    }
}

extension Row {
    /// The kinds that are stopped in one column, and the generations in the next.
    func stoppedKinds(from column: Int) throws(PostgresError) -> [String: Int64] {
        Dictionary(zip(try self[column].stringArray(), try self[column + 1].int64Array()), uniquingKeysWith: max)
    }
}

/// `breakwater.survived`: says that this process lives, although its worker of that number was taken for lost. Answers
/// with the number of jobs that it no longer makes suspects.
package struct Survived: StoreCall {
    package var worker: Int64

    package var statement: Statement { Statement("select breakwater.survived($1)", [.int8(worker)]) }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Int { try result[0][0].int() }
}

/// `breakwater.reconcile`: gives back claims whose answers never reached this worker. Answers with the number of jobs.
package struct Reconcile: StoreCall {
    package var worker: Int64
    package var known: [Int64]

    package var statement: Statement {
        Statement("select breakwater.reconcile($1, $2)", [.int8(worker), .int8Array(known)])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Int { try result.row(0)[0].int() }
}

/// `breakwater.leave`: signs a worker off. Answers with the number of jobs it handed back.
package struct Leave: StoreCall {
    package var worker: Int64

    package var statement: Statement { Statement("select breakwater.leave($1)", [.int8(worker)]) }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Int { try result.row(0)[0].int() }
}

/// `breakwater.poll_hot_kinds`: which kinds a worker polls, so that their inserts need not notify a sleeping worker.
package struct PollHotKinds: StoreCall {
    package var worker: Int64
    /// The queues it polls.
    package var queues: [String]
    /// The kinds it polls for.
    package var polled: [String]
    /// The other kinds, whose inserts wake it.
    package var kinds: [String]
    /// How long other workers may rely on its polling.
    package var term: Duration

    package var statement: Statement {
        Statement(
            "select breakwater.poll_hot_kinds($1, $2, $3, $4, $5)",
            [
                .int8(worker), .textArray(queues), .textArray(kinds), .textArray(polled),
                .float8(term.inSeconds),
            ]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) {}
}

/// `breakwater.sleep` and `breakwater.stop_sleeping`: whether inserts should wake this worker.
package struct Sleep: StoreCall {
    package var worker: Int64
    /// The kinds whose inserts wake it; empty if inserts are not to wake it.
    package var kinds: [String]

    package var statement: Statement {
        kinds.isEmpty
            ? Statement("select breakwater.stop_sleeping($1)", [.int8(worker)])
            : Statement("select breakwater.sleep($1, $2)", [.int8(worker), .textArray(kinds)])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) {}
}
