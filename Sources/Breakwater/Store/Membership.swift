import Foundation
package import Libpq

/// `breakwater.register`: registers a worker with the settings of its handlers. Returns the worker's number.
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
    /// The settings of the handlers as a parameter of `breakwater.register`.
    fileprivate var policies: Parameter {
        let rows = handlers.map { HandlerRow($0.kind, $0.settings) }
        // Encoding numbers, strings and optionals of them cannot fail, because infinities are refused with the
        // configuration.
        let data = (try? JSONEncoder().encode(rows)) ?? Data("[]".utf8)
        return .jsonb(String(decoding: data, as: UTF8.self))
    }
}

/// `breakwater.beat`: a worker's heartbeat.
package struct Beat: StoreCall {
    package var worker: Int64
    package var isDraining: Bool
    package var running: Int
    /// The number of runs that continue long after they were cancelled.
    package var unresponsive = 0

    package struct Output: Sendable {
        /// Whether the worker is still registered. If not, its jobs have been released to others.
        package var isAlive: Bool
        /// The kinds that are stopped. The value for a kind whose circuit is not closed is the circuit's generation.
        /// For a kind that this worker must not run for another reason (it is paused, suspended or drained), it is the
        /// highest number.
        package var stopped: [String: Int64]
        /// Whether this worker should stop claiming other jobs in order to run suspects.
        package var hostsSuspect: Bool
        /// Whether this worker is the sole consumer of its kinds and queues.
        package var isSoleConsumer: Bool
        /// Whether all rows of the worker's registration exist. If not, it must renew the registration.
        package var isRegistered = true
        /// The runs that this worker is asked to cancel.
        package var cancelRequests: Set<RunKey> = []
    }

    package var statement: Statement {
        Statement(
            """
            select alive, stopped, generations, hosts, is_sole, registered, cancelled, cancelled_leases \
            from breakwater.beat($1, $2, $3, $4)
            """,
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
            isRegistered: try row[5].bool(),
            cancelRequests: try row.runKeys(from: 6)
        )
    }
}

extension Row {
    /// Decodes the stopped kinds from one column, and their generations from the next.
    func stoppedKinds(from column: Int) throws(PostgresError) -> [String: Int64] {
        Dictionary(zip(try self[column].stringArray(), try self[column + 1].int64Array()), uniquingKeysWith: max)
    }
}

/// `breakwater.survived`: reports that this process is alive, although its worker of that number was considered lost.
/// Returns the number of jobs that are therefore no longer suspects.
package struct Survived: StoreCall {
    package var worker: Int64

    package var statement: Statement { Statement("select breakwater.survived($1)", [.int8(worker)]) }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Int { try result[0][0].int() }
}

/// `breakwater.reconcile`: releases claims whose answers never reached this worker. Returns the number of jobs.
package struct Reconcile: StoreCall {
    package var worker: Int64
    package var known: [Int64]

    package var statement: Statement {
        Statement("select breakwater.reconcile($1, $2)", [.int8(worker), .int8Array(known)])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Int { try result.row(0)[0].int() }
}

/// `breakwater.leave`: deregisters a worker. Returns the number of jobs that were released.
package struct Leave: StoreCall {
    package var worker: Int64

    package var statement: Statement { Statement("select breakwater.leave($1)", [.int8(worker)]) }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Int { try result.row(0)[0].int() }
}

/// `breakwater.poll_hot_kinds`: records the kinds that a worker polls, so that their inserts need not notify a worker.
package struct PollHotKinds: StoreCall {
    package var worker: Int64
    /// The queues that the worker polls.
    package var queues: [String]
    /// The kinds that the worker polls for.
    package var polled: [String]
    /// The other kinds, whose inserts notify the worker.
    package var kinds: [String]
    /// How long the worker's polling may be relied on.
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

/// `breakwater.sleep` and `breakwater.stop_sleeping`: record whether inserts should notify this worker.
package struct Sleep: StoreCall {
    package var worker: Int64
    /// The kinds whose inserts notify the worker; empty for none.
    package var kinds: [String]

    package var statement: Statement {
        kinds.isEmpty
            ? Statement("select breakwater.stop_sleeping($1)", [.int8(worker)])
            : Statement("select breakwater.sleep($1, $2)", [.int8(worker), .textArray(kinds)])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) {}
}
