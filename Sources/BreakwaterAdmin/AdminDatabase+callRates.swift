import Libpq

/// The recent calls of a kind per second, by how they ended.
package struct CallRate: Equatable {
    package var kind: String
    package var succeeded: Double
    package var failed: Double
    package var slow: Double
    /// Calls of jobs that had run before, among all calls.
    package var retries: Double
}

extension AdminDatabase {
    /// The call rates over the last ten whole seconds, for kinds that had any calls.
    package func callRates() async throws -> [CallRate] {
        // The query looks up whole keys of the tallies' index, because the table has many thousands of rows.
        try await connection.query(
            """
            select h.kind, sum(t.succeeded)::float8 / 10 as succeeded, sum(t.failed)::float8 / 10 as failed,
                   sum(t.slow)::float8 / 10 as slow, sum(t.retries) filter (where t.worker <> 0)::float8 / 10 as retries
              from breakwater.handler h
             cross join lateral (select 0 as generation union
                                 select c.generation from breakwater.circuit c where c.kind = h.kind and c.key = '') g
              join breakwater.tally t on t.kind = h.kind and t.key = '' and t.generation = g.generation
                                     and t.slot < date_trunc('second', now())
                                     and t.slot >= date_trunc('second', now()) - interval '10 seconds'
             group by h.kind having sum(t.succeeded + t.failed) > 0
             order by sum(t.succeeded + t.failed) desc, h.kind
            """
        ).map { row in
            CallRate(
                kind: try row["kind"].string(),
                succeeded: try row["succeeded"].double(),
                failed: try row["failed"].double(),
                slow: try row["slow"].double(),
                retries: try row["retries"].doubleOrNil() ?? 0
            )
        }
    }
}
