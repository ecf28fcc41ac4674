import ArgumentParser
import Breakwater
import BreakwaterAdmin
import Foundation

extension EndpointsCommand {
    /// `worker endpoints set`.
    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "set",
            abstract: "Add an endpoint, or change one. What is not given stays as it is.",
            discussion: """
                Examples:

                  worker endpoints set acme --url https://hooks.acme.example/in --new-secret
                  worker endpoints set acme --header 'X-Tenant: 7' --disable-after 5d
                  worker endpoints set acme --secret "$NEW" --secret "$OLD"
                  worker endpoints set acme --secret "$NEW"
                  worker endpoints set acme --concurrency 2 --rate 100/min
                  worker endpoints set acme --concurrency 0    # any number again

                All secrets sign each request. To change one, set the new one and the old one; when the customer uses \
                the new one, set that one alone. --new-secret makes one, prints it, and drops the others. Arguments can \
                be seen by other users of this machine while the command runs: --secret - reads secrets from standard \
                input, one a line.
                """
        )

        @OptionGroup var endpoint: EndpointName

        @Option(help: "An http or https URL, without a user, a password or a fragment.")
        var url: String?

        @Option(help: "A key that signs requests, whsec_…; repeat it for several; - reads them from standard input.")
        var secret: [String] = []

        @Flag(help: "Make a new key, and print it.")
        var newSecret = false

        @Flag(help: "Leave requests unsigned.")
        var noSecrets = false

        @Option(
            help: ArgumentHelp("A header; repeat it for several. They replace those before.", valueName: "name: value")
        )
        var header: [String] = []

        @Flag(help: "Leave out the headers that were set.")
        var noHeaders = false

        @Option(
            help: ArgumentHelp(
                "Disable it when all deliveries have failed for so long, such as 5d; 0s for never.",
                valueName: "duration"
            )
        )
        var disableAfter: DurationArgument?

        @Option(help: "How many of its deliveries may run at once in the whole fleet; 0 for any number.")
        var concurrency: Int?

        @Option(help: "How many of its deliveries may start in a time, such as 100/min; 0 for any number.")
        var rate: String?

        @Option(help: "How many may start at once after a pause. Else what a tenth of a second allows.")
        var burst: Int?

        @OptionGroup var remark: Remark
        @OptionGroup var database: DatabaseOptions
        @OptionGroup var output: OutputOptions

        func validate() throws {
            if [!secret.isEmpty, newSecret, noSecrets].filter({ $0 }).count > 1 {
                throw ValidationError("--secret, --new-secret and --no-secrets exclude each other; give one of them.")
            }
            if !header.isEmpty, noHeaders {
                throw ValidationError("--header and --no-headers are both given; give one of them.")
            }
            _ = try headers()
        }

        /// The headers as a JSON object; nil if they stay as they are.
        private func headers() throws -> String? {
            if noHeaders { return "{}" }
            guard !header.isEmpty else { return nil }
            var members: [String: String] = [:]
            for line in header {
                guard let colon = line.firstIndex(of: ":"), colon != line.startIndex else {
                    // The line may hold a secret, so that it is not shown.
                    throw ValidationError("A --header has no name and value; write --header 'Name: value'.")
                }
                let value = line[line.index(after: colon)...].drop(while: \.isWhitespace)
                members[String(line[..<colon])] = String(value)
            }
            return "{"
                + members.sorted { $0.key < $1.key }.map { "\($0.key.jsonText):\($0.value.jsonText)" }
                .joined(separator: ",") + "}"
        }

        private func secrets() throws -> [String]? {
            if noSecrets { return [] }
            if newSecret { return [Self.makeSecret()] }
            guard !secret.isEmpty else { return nil }
            guard secret == ["-"] else { return secret }
            let lines = Self.lines()
            guard !lines.isEmpty else {
                throw CommandFailure(.usage, "standard input has no secret; for none, give --no-secrets.")
            }
            return lines
        }

        /// 32 random bytes in the form of Standard Webhooks.
        private static func makeSecret() -> String {
            var generator = SystemRandomNumberGenerator()
            let bytes = (0..<32).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
            return "whsec_" + Data(bytes).base64EncodedString()
        }

        private static func lines() -> [String] {
            var lines: [String] = []
            while let line = readLine(), lines.count < 100 {
                if !line.isEmpty { lines.append(line) }
            }
            return lines
        }

        func run() async throws {
            var change = EndpointChange(
                url: url,
                secrets: try secrets(),
                headers: try headers(),
                disableAfter: disableAfter?.duration
            )
            change.concurrency = concurrency
            change.rate = rate == "0" ? (0, 1) : try rate.map { try LimitSettings.readRate($0) }
            change.burst = burst
            let isNew = try await AdminDatabase.with(database.database) { [change] in
                try await $0.setEndpoint(endpoint.name, change, reason: remark.reason, actor: remark.who)
            }
            let made = newSecret ? change.secrets?.first : nil
            if output.json {
                Terminal.write(
                    .object(["name": .string(endpoint.name), "is_new": .bool(isNew), "secret": .string(orNull: made)])
                )
                return
            }
            Terminal.write(
                "The endpoint '\(endpoint.name)' is \(isNew ? "added" : "changed").".escapingControlCharacters
            )
            if let made { Terminal.write("Its secret, which is not shown again: \(made)") }
        }
    }
}
