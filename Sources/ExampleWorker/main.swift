// A worker with a handler of its own, written in Swift. It has every command that `worker` has, except `bench`:
//
//     export DATABASE_URL=postgresql:///app
//     ExampleWorker migrate
//     ExampleWorker enqueue email.send '{"to": "ada@example.org", "subject": "Hello"}'
//     EXAMPLE_OUTBOX=/tmp/outbox ExampleWorker run

import Breakwater
import Foundation
import WorkerCommand

let outbox = ProcessInfo.processInfo.environment["EXAMPLE_OUTBOX"] ?? "outbox"

var settings = HandlerSettings()
settings.concurrency = 20
settings.timeout = .seconds(10)
settings.retry.maxAttempts = 8
settings.circuit.openFor = .seconds(5)
settings.keepResults = .seconds(3600)

await WorkerCommand.main(
    handlers: [
        // A configuration file may say otherwise, under  email.send: { swift: {}, concurrency: 5 }.
        HandlerRegistration(
            kind: "email.send",
            handler: SendEmail(outbox: URL(filePath: outbox, directoryHint: .isDirectory)),
            settings: settings
        )
    ],
    services: [OutboxReport(outbox: outbox)]
)
