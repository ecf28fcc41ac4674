import Breakwater
import Foundation
import Libpq
import Logging

/// Enqueues a job for each line of standard input (its number, its kind and its payload, separated by tabs), and
/// records the server's answer: the job's id, a refusal, or an unknown result. It also records each notification about
/// a circuit.
struct EnqueueClient {
    let url: String
    let notes: Notes

    func run() async {
        let listener = Task { await listen() }
        var connection: Connection?
        while let line = readLine() {
            let words = line.split(separator: "\t", maxSplits: 2).map(String.init)
            guard words.count == 3, let number = Int(words[0]) else { continue }
            connection = await enqueue(number, kind: words[1], payload: words[2], over: connection)
        }
        await connection?.close()
        listener.cancel()
        await listener.value
    }

    /// Makes only one attempt, so that its result is known exactly.
    ///
    /// - Returns: The connection for the next job.
    private func enqueue(_ number: Int, kind: String, payload: String, over last: Connection?) async -> Connection? {
        let connection: Connection
        do {
            connection = if let last { last } else { try await connect() }
        } catch {
            notes.write("not_sent", ["n": number, "why": "\(error)"])
            return nil
        }
        do {
            notes.write("sent", ["n": number, "kind": kind, "payload": payload])
            let rows = try await connection.query(
                "insert into breakwater.job (kind, payload) values ($1, $2) returning id",
                [.text(kind), .jsonb(payload)],
                timeout: .seconds(5)
            )
            notes.write("enqueued", ["n": number, "job": try rows[0][0].int64()])
            return connection
        } catch {
            // An error of the server ended the transaction. After any other error it is unknown whether the transaction
            // was committed.
            notes.write(error.code == .server ? "refused" : "unanswered", ["n": number, "why": "\(error)"])
            if connection.isClosed || error.code != .server {
                await connection.close()
                return nil
            }
            return connection
        }
    }

    private func connect() async throws(PostgresError) -> Connection {
        let options = ConnectionOptions(url, applicationName: "chaos client", connectTimeout: .seconds(3))
        return try await Connection.connect(options, logger: Logger(label: "chaos") { _ in SwiftLogNoOpLogHandler() })
    }

    private func listen() async {
        while !Task.isCancelled {
            if let connection = try? await connect() {
                try? await connection.listen("breakwater")
                for await news in connection.notifications where news.payload.hasPrefix("circuit:") {
                    notes.write("heard", ["news": news.payload])
                }
                await connection.close()
            }
            try? await Task.sleep(for: .milliseconds(500))
        }
    }
}
