package import Libpq

/// `breakwater.cancel_requests`: the runs that a worker is asked to cancel.
package struct CancelRequests: StoreCall {
    package var worker: Int64

    package init(worker: Int64) { self.worker = worker }

    package var statement: Statement {
        Statement("select jobs, leases from breakwater.cancel_requests($1)", [.int8(worker)])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Set<RunKey> {
        try result.row(0).runKeys(from: 0)
    }
}

extension Row {
    /// Decodes the jobs of runs from one column, and their leases from the next.
    func runKeys(from column: Int) throws(PostgresError) -> Set<RunKey> {
        Set(zip(try self[column].int64Array(), try self[column + 1].int64Array()).map { RunKey(id: $0, lease: $1) })
    }
}

/// `breakwater.report_progress`: stores what runs have reported.
package struct ReportProgress: StoreCall {
    package var worker: Int64
    /// At most one report of each job.
    package var reports: [RunReport]

    package init(worker: Int64, reports: [RunReport]) {
        self.worker = worker
        self.reports = reports
    }

    package var statement: Statement {
        Statement(
            "select breakwater.report_progress($1, $2, $3, $4, $5, $6, $7)",
            [
                .int8(worker),
                .int8Array(reports.map(\.run.id)),
                .int8Array(reports.map(\.run.lease)),
                .int8Array(reports.map(\.version)),
                // A negative value stands for none, because this array of doubles cannot contain nil.
                .float8Array(reports.map { $0.fraction ?? -1 }),
                .textArray(reports.map(\.note)),
                .textArray(reports.map(\.checkpoint)),
            ]
        )
    }

    package func decode(_ result: QueryResult) throws(PostgresError) {}
}
