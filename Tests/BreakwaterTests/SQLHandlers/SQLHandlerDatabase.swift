import BreakwaterSQL
import BreakwaterTesting
import Foundation
import Libpq

@testable import Breakwater

/// A database with functions for SQL handlers, and a role for them.
struct SQLHandlerDatabase: Sendable {
    var database: TestDatabase
    var role: String

    /// A handler of the kind `k` that calls a function of the schema `app`.
    func handler(
        _ function: String,
        connections: Int = 4,
        to options: ConnectionOptions? = nil,
        discardOn: [String] = [],
        retryOn: [String] = [],
        maxResultBytes: Int = 1 << 20,
        _ change: (inout HandlerSettings) -> Void = { _ in }
    ) throws -> HandlerRegistration {
        let plugin = try SQLPlugin(
            function: "app.\(function)",
            role: role,
            database: options ?? ConnectionOptions(database.directURL),
            connections: connections,
            discardOn: discardOn,
            retryOn: retryOn,
            maxResultBytes: maxResultBytes
        )
        var settings = HandlerSettings()
        settings.concurrency = plugin.capacity
        settings.retry.maxAttempts = 1
        settings.circuit.isEnabled = false
        change(&settings)
        return HandlerRegistration(kind: "k", plugin: plugin, settings: settings)
    }

    /// Creates a function of the schema `app` with the parameters `payload` and `job`.
    func function(_ name: String, returns type: String = "jsonb", _ body: String) async throws {
        try await database.query(
            """
            create function app.\(name)(payload jsonb, job jsonb) returns \(type) language plpgsql as $f$ \(body) $f$
            """
        )
    }

    func enqueue(_ payload: String = "{}", count: Int = 1) async throws {
        try await database.query(
            "insert into breakwater.job (kind, payload) select 'k', $1 from generate_series(1, $2)",
            [.jsonb(payload), .int4(Int32(count))]
        )
    }

    /// Waits until no job is left.
    func waitUntilDone() async throws {
        try await waitUntil("all jobs have ended") { try await database.count("job") == 0 }
    }

    /// Takes the advisory lock 1, for which the functions of some tests wait. The lock is held until the connection is
    /// closed.
    func lock() async throws -> Connection {
        let connection = try await database.connectDirectly()
        _ = try await connection.query("select pg_advisory_lock(1)")
        return connection
    }

    /// How many calls wait for an advisory lock of this database.
    func waitingCalls() async throws -> Int {
        try await database.number(
            """
            select count(*) from pg_locks l join pg_database d on d.oid = l.database
             where d.datname = current_database() and l.locktype = 'advisory' and not l.granted
            """
        )
    }

    /// The dead letters: their reason, and the name and message of the last error.
    func letters() async throws -> [String] {
        try await database.texts(
            """
            select concat_ws('|', reason, errors -> -1 ->> 'name', errors -> -1 ->> 'message')
              from breakwater.dead_letter order by id
            """
        )
    }

    /// Each job of the ledger, as often as it is there, and how often jobs have run.
    func ledger() async throws -> (entries: Int, jobs: Int) {
        (
            try await database.number("select count(*) from app.ledger"),
            try await database.number("select count(distinct job) from app.ledger")
        )
    }
}

/// Gives the body a database with the schema `app`, a table `app.ledger`, and a role that may write there.
func withSQLHandlers(_ body: (SQLHandlerDatabase) async throws -> Void) async throws {
    try await withTestDatabase { database in
        try await withSQLHandlers(in: database, body)
    }
}

func withSQLHandlers(in database: TestDatabase, _ body: (SQLHandlerDatabase) async throws -> Void) async throws {
    let role = "jobs_\(UUID().uuidString.prefix(13).lowercased().replacing("-", with: "_"))"
    try await database.connection.script(
        """
        create role \(role); create schema app; grant usage on schema app to \(role);
        create table app.ledger (job bigint, role text default current_user, transaction bigint default txid_current());
        create sequence app.run; grant usage on sequence app.run to \(role);
        grant select, insert on app.ledger to \(role);
        create function app.pay(payload jsonb, job jsonb) returns jsonb language plpgsql as $f$
        begin
            perform nextval('app.run');
            insert into app.ledger (job) values ((job ->> 'id')::bigint);
            return payload;
        end $f$;
        """
    )
    let all = SQLHandlerDatabase(database: database, role: role)
    /// The server may have been restarted meanwhile.
    func drop() async throws {
        let connection = try await database.connect()
        try await connection.script("drop owned by \(role) cascade; drop role \(role)")
        await connection.close()
    }
    do {
        try await body(all)
    } catch {
        try? await drop()
        throw error
    }
    try await drop()
}
