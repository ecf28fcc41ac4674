import ArgumentParser
import BreakwaterEndpoints
import BreakwaterHTTP
import Foundation

/// `worker healthcheck`: requests the health of a running worker, for containers that have no curl.
struct HealthcheckCommand: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "healthcheck",
            abstract: "Ask a running worker whether it is alive, or ready.",
            discussion: """
                Examples:

                  worker healthcheck
                  worker healthcheck --ready --address 127.0.0.1:9464
                  HEALTHCHECK CMD ["worker", "healthcheck"]

                It asks at the address that the worker serves its metrics at (worker run --metrics). A worker is alive \
                while its loops turn, whatever its database does; it is ready when it takes jobs. Restart one that is \
                not alive; leave one alone that is only not ready.

                It exits with 0 when all is well, with 1 when not, and with 69 when nobody answers.
                """
        )
    }

    @Option(
        help: ArgumentHelp(
            "Where the worker serves its metrics. Else BREAKWATER_METRICS, else 127.0.0.1:9464.",
            valueName: "address"
        )
    )
    var address: String?

    @Flag(help: "Ask whether it takes jobs, instead of whether it is alive.")
    var ready = false

    @Option(help: ArgumentHelp("How long to wait for an answer. 5s unless given.", valueName: "duration"))
    var timeout: DurationArgument?

    func run() async throws {
        let given =
            address ?? ProcessInfo.processInfo.environment["BREAKWATER_METRICS"].flatMap { $0.isEmpty ? nil : $0 }
        let rule = ValueRule<ListenAddress>.address
        let address: ListenAddress
        do {
            address = try rule.read(given ?? "127.0.0.1:9464")
        } catch {
            throw CommandFailure(.usage, "--address: \(error.message)")
        }
        let url = "http://\(address.asDestination)/\(ready ? "readyz" : "livez")"
        switch try await ConfiguredEndpoint(url).get(timeout: timeout?.duration ?? .seconds(5)) {
        case .response(let response):
            let text = String(decoding: response.body, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
            guard response.status == 200 else {
                throw CommandFailure(.refused, "\(url) answers \(response.status): \(text)")
            }
            Terminal.write(text)
        case .failure(let failure):
            throw CommandFailure(.unavailable, "nobody answers at \(url): \(failure.reason)")
        case .cancelled:
            throw CommandFailure(.unavailable, "cancelled")
        }
    }
}

extension ListenAddress {
    /// The address to connect to. A server that listens on every address is reached at the loopback address.
    fileprivate var asDestination: ListenAddress {
        switch host {
        case "0.0.0.0": ListenAddress(host: "127.0.0.1", port: port)
        case "::": ListenAddress(host: "::1", port: port)
        default: self
        }
    }
}
