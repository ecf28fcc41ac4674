// A web server with a worker beside it, in one process: a purchase is stored and its receipt enqueued in one transaction.
//
//     DATABASE_URL=postgresql:///app PORT=8080 ExampleServer
//     curl -d '{"id": 7, "total": 12.5}' http://127.0.0.1:8080/purchases

import Breakwater
import Foundation
import Hummingbird

/// The payload of a receipt's job.
struct Receipt: Codable, Sendable {
    var purchase: Int64
}

extension JobKind where Payload == Receipt {
    static var receipt: Self { "receipt.send" }
}

struct Purchase: Codable {
    var id: Int64
    var total: Double
}

/// What a purchase answers: the job that sends its receipt.
struct Accepted: ResponseEncodable {
    var job: Int64
}

/// A job as the server shows it.
struct JobState: ResponseEncodable {
    var state: String
    var why: String
}

let environment = ProcessInfo.processInfo.environment
let database = ConnectionOptions(environment["DATABASE_URL"] ?? "postgresql:///app")
let logger = Logger(label: "shop")
let client = try BreakwaterClient(database, logger: logger)

let router = Router()
router.post("purchases") { request, context in
    let purchase = try await request.decode(as: Purchase.self, context: context)
    let job = try await client.withTransaction { transaction in
        _ = try await transaction.query(
            "insert into shop.purchase (id, total) values ($1, $2)",
            [.int8(purchase.id), .float8(purchase.total)]
        )
        return try await transaction.enqueue(.receipt, Receipt(purchase: purchase.id))
    }
    return EditedResponse(status: .accepted, response: Accepted(job: job))
}
router.get("jobs/:id") { _, context in
    guard let job = try await client.job(context.parameters.require("id", as: Int64.self)) else {
        return JobState(state: "ended", why: "the job is done, or a dead letter")
    }
    return JobState(state: job.state, why: job.why)
}

let receipts = HandlerRegistration(kind: .receipt) { receipt, context in
    context.logger.notice("receipt sent", metadata: ["purchase": "\(receipt.purchase)"])
    return .succeeded()
}
let worker = Worker(
    configuration: WorkerConfiguration(database: database, handlers: [receipts]),
    logger: logger
)

// The server stops first when the process is told to end, then the worker, and the client last.
let server = Application(
    router: router,
    configuration: .init(address: .hostname("127.0.0.1", port: environment["PORT"].flatMap(Int.init) ?? 8080)),
    services: [client, worker],
    logger: logger
)
try await server.runService()
