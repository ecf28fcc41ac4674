// The program that `scripts/chaos` runs beside Postgres. It is either a worker whose handlers misbehave as their
// payloads say and record every run outside the queue, or a client that enqueues the jobs of its input and records the
// answers.
//
//     ChaosAgent run --config worker.yaml      the worker; CHAOS_NOTES names the file of its notes
//     ChaosAgent enqueue URL NOTES             the client; one job a line of standard input

import Breakwater
import Foundation
import WorkerCommand

let words = ProcessArguments.words
if words.first == "enqueue", words.count == 3 {
    // If the reader of a pipe is gone, a write fails but the process continues.
    signal(SIGPIPE, SIG_IGN)
    let client = EnqueueClient(url: words[1], notes: try Notes(path: words[2]))
    await client.run()
    exit(0)
}

let environment = ProcessInfo.processInfo.environment
let notes = try Notes(
    path: environment["CHAOS_NOTES"] ?? "/dev/null",
    secondsAhead: Double(environment["CHAOS_SECONDS_AHEAD"] ?? "") ?? 0
)
let plugin = ChaosPlugin(
    notes: notes,
    worker: environment["CHAOS_WORKER"] ?? "worker",
    outage: environment["CHAOS_OUTAGE"] ?? "/nonexistent"
)
await WorkerCommand.main(
    handlers: ["chaos.work", "chaos.limited", "chaos.ordered", "chaos.call", "chaos.host", "chaos.killer"].map {
        HandlerRegistration(kind: $0, plugin: plugin)
    }
)
