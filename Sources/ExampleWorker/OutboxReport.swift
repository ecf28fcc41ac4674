import Foundation
import Logging
import ServiceLifecycle

/// Logs how many e-mails are in the outbox when the worker has ended. It is an example of a service that runs beside a
/// worker.
struct OutboxReport: Service {
    struct NoDirectory: Error, CustomStringConvertible {
        var description: String
    }

    /// The path of the outbox.
    var outbox: String

    func run() async throws {
        var isDirectory: ObjCBool = false
        if FileManager.default.fileExists(atPath: outbox, isDirectory: &isDirectory), !isDirectory.boolValue {
            // This error also ends the worker.
            throw NoDirectory(description: "\(outbox) is no directory")
        }
        try? await gracefulShutdown()
        let files = (try? FileManager.default.contentsOfDirectory(atPath: outbox)) ?? []
        Logger(label: "example.outbox").notice("outbox", metadata: ["emails": .stringConvertible(files.count)])
    }
}
