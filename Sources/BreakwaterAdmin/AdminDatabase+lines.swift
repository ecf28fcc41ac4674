import Libpq

/// Consecutive lines of jobs, each a JSON object.
package struct JobLines: Sendable {
    /// One line.
    package struct Line: Sendable {
        /// The text of the line in the file, by which it is recognised.
        package var text: String
        /// The JSON object of its job.
        package var json: String
        package var number: Int

        package init(text: String, json: String, number: Int) {
            self.text = text
            self.json = json
            self.number = number
        }
    }

    package var lines: [Line] = []
    /// The number of the last line that was read, which may have been empty.
    package var lastNumber = 0
    package var bytes = 0

    package init() {}
}

extension AdminDatabase {
    /// `breakwater.import_position`: how many lines an import has added.
    package func importPosition(_ name: String) async throws -> Int {
        try await one("select lines from breakwater.import_position($1)", [.text(name)])[0].int()
    }

    /// Whether a line is the last one that an import added.
    package func isLastLine(_ text: String, ofImport name: String) async throws -> Bool {
        try await one("select is_same from breakwater.import_position($1, $2)", [.text(name), .text(text)])[0].bool()
    }

    /// `breakwater.enqueue_lines`: adds jobs in one transaction and returns how many were added. Jobs whose unique key
    /// is taken are skipped.
    ///
    /// - Parameters:
    ///   - lines: The jobs.
    ///   - defaults: The values for members that a line does not have.
    ///   - name: The import whose position is updated; nil for none.
    package func enqueue(_ lines: [JobLines.Line], defaults: NewJob, import name: String?) async throws -> Int {
        try await one(
            """
            select breakwater.enqueue_lines($1, jsonb_strip_nulls(jsonb_build_object(
                'kind', nullif($2, ''), 'queue', $3::text, 'priority', $4::integer, 'max_attempts', $5::integer,
                'traceparent', $6::text, 'tracestate', $7::text, 'run_at', coalesce(now() + $8, $9))), $10, $11, $12, $13)
            """,
            [
                .jsonbArray(lines.map(\.json)), .text(defaults.kind), .text(defaults.queue),
                .int4(Int32(clamping: defaults.priority)), .int4(defaults.maxAttempts.map { Int32(clamping: $0) }),
                .text(defaults.traceparent), .text(defaults.tracestate), .interval(defaults.delay),
                .timestamptz(defaults.runAt), .text(name),
                .int8(lines.first.map { Int64($0.number) }), .int8(lines.last.map { Int64($0.number) }),
                .text(lines.last?.text),
            ],
            timeout: .seconds(300)
        )[0].int()
    }
}
