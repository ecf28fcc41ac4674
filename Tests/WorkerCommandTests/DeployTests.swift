import ArgumentParser
import Breakwater
import BreakwaterTesting
import Foundation
import Libpq
import Logging
import Testing
import Yams

@testable import WorkerCommand

/// Checks the files in `deploy/` against the program and against each other. `scripts/deploy-check` runs other tools on
/// them.
@Suite("The files for deploying")
struct DeployTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private func text(_ path: String) throws -> String {
        try String(contentsOf: Self.root.appending(path: "deploy/\(path)"), encoding: .utf8)
    }

    private func yaml(_ path: String) throws -> [[String: Any]] {
        try Yams.load_all(yaml: try text(path)).map { try #require($0 as? [String: Any]) }
    }

    /// A value at a path of keys and indices.
    private func value<Value>(_ root: Any?, _ path: Any..., as type: Value.Type = Value.self) throws -> Value {
        var value = root
        for step in path {
            value =
                (step as? Int).flatMap { (value as? [Any])?[$0] } ?? (value as? [String: Any])?[step as? String ?? ""]
        }
        return try #require(value as? Value, "\(path)")
    }

    /// `deploy/worker.yaml`, as the program reads it.
    private func configuration() throws -> LoadedConfiguration {
        try ConfigurationLoader(flags: [:], environment: [:], registered: []).load(
            try ConfigurationFile(path: Self.root.appending(path: "deploy/worker.yaml").path())
        )
    }

    @Test("the configuration is valid, and the same in Kubernetes")
    func configurations() throws {
        #expect(try configuration().warnings.isEmpty)
        let map = try #require(try yaml("kubernetes/configmap.yaml").first)
        #expect(try value(map, "data", "worker.yaml", as: String.self) == text("worker.yaml"))
    }

    @Test("every supervisor waits for longer than shutdown_grace before it kills")
    func grace() throws {
        let grace = try configuration().worker.shutdownGrace
        let pod = try #require(try yaml("kubernetes/deployment.yaml").first)
        #expect(
            .seconds(try value(pod, "spec", "template", "spec", "terminationGracePeriodSeconds", as: Int.self)) > grace
        )
        let compose = try #require(try yaml("compose.yaml").first)
        #expect(try Duration(text: try value(compose, "services", "worker", "stop_grace_period")) > grace)
        let unit = try settings(try text("systemd/breakwater-worker@.service"))
        #expect(try Duration(text: try #require(unit["TimeoutStopSec"]?.last)) > grace)
        #expect(unit["KillMode"] == ["mixed"])
        #expect(try text("Dockerfile").contains("--stop-timeout 45"))
    }

    /// A unit's settings, each with its values.
    private func settings(_ unit: String) throws -> [String: [String]] {
        var settings: [String: [String]] = [:]
        for line in unit.split(separator: "\n") where !line.hasPrefix("#") && !line.hasPrefix("[") {
            let parts = try #require(line.firstIndex(of: "=").map { (line[..<$0], line[line.index(after: $0)...]) })
            settings[String(parts.0), default: []].append(String(parts.1))
        }
        return settings
    }

    @Test("the unit restarts the worker unless the failure lasts, and watches it")
    func unit() throws {
        let unit = try settings(try text("systemd/breakwater-worker@.service"))
        #expect(unit["Type"] == ["notify"])
        #expect(try Duration(text: try #require(unit["WatchdogSec"]?.first)) > .zero)
        #expect(unit["Restart"] == ["on-failure"])
        let lasting = [CommandFailure.Status.usage, .noPermission, .configuration].map { "\($0.rawValue)" }
        #expect(unit["RestartPreventExitStatus"]?.first?.split(separator: " ").map(String.init) == lasting)
        for (name, value) in [
            ("NoNewPrivileges", "yes"), ("ProtectSystem", "strict"), ("ProtectHome", "yes"),
            ("CapabilityBoundingSet", ""),
            ("DynamicUser", "yes"), ("LimitCORE", "0"), ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"),
        ] {
            #expect(unit[name] == [value])
        }
        for name in ["LimitNOFILE", "TasksMax"] { #expect(unit[name]?.first.flatMap(Int.init) ?? 0 >= 1024) }
        let command = try #require(unit["ExecStart"]?.first).split(separator: " ").dropFirst().map(String.init)
        _ = try #require(try RootCommand.parseAsRoot(command) as? RunCommand)
    }

    /// A Dockerfile's instructions, with continued lines joined.
    private func instructions(_ file: String) -> [(name: String, rest: String)] {
        file.replacing("\\\n", with: " ").split(separator: "\n").filter { !$0.hasPrefix("#") }.map { line in
            let parts = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
            return (String(parts[0]), parts.count > 1 ? String(parts[1]).trimmingCharacters(in: .whitespaces) : "")
        }
    }

    @Test("the image is built in two stages from existing files, runs without root, and has a health check")
    func image() throws {
        let all = instructions(try text("Dockerfile"))
        let known = [
            "ARG", "FROM", "RUN", "WORKDIR", "COPY", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT",
            "CMD",
        ]
        #expect(all.allSatisfy { known.contains($0.name) })
        let stages = all.indices.filter { all[$0].name == "FROM" }
        #expect(stages.count == 2)
        let last = all[(try #require(stages.last))...]
        // The last stage has nothing of the build but its product, and no compiler.
        #expect(last.filter { $0.name == "COPY" }.map(\.rest) == ["--from=build /out/ /"])
        #expect(!last.contains { $0.rest.contains("swift:") })
        #expect(last.last { $0.name == "USER" }?.rest == "10001:10001")
        let entry = try words(last.first { $0.name == "ENTRYPOINT" }?.rest)
        let health = try #require(last.first { $0.name == "HEALTHCHECK" }?.rest.firstRange(of: "CMD "))
        let check = try words(last.first { $0.name == "HEALTHCHECK" }.map { String($0.rest[health.upperBound...]) })
        #expect(check == ["worker", "healthcheck"])
        #expect(entry == ["worker"])
        let command = try words(last.first { $0.name == "CMD" }?.rest)
        _ = try #require(try RootCommand.parseAsRoot(command) as? RunCommand)

        // The copied files exist, and the ignore file does not exclude them.
        let ignore = try text("Dockerfile.dockerignore").split(separator: "\n")
        #expect(ignore.contains("*"))
        for copy in all[..<(try #require(stages.last))] where copy.name == "COPY" {
            let source = try #require(copy.rest.split(separator: " ").first.map(String.init))
            #expect(FileManager.default.fileExists(atPath: Self.root.appending(path: source).path()), "\(source)")
            #expect(ignore.contains("!\(source)"), "\(source)")
        }
    }

    private func words(_ json: String?) throws -> [String] {
        let text = try #require(json)
        return try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String])
    }

    @Test("the compose file migrates before workers start, and names files that exist")
    func compose() throws {
        let compose = try #require(try yaml("compose.yaml").first)
        let services: [String: Any] = try value(compose, "services")
        #expect(Set(services.keys) == ["postgres", "migrate", "worker", "admin"])
        #expect(
            try value(services, "worker", "depends_on", "migrate", "condition", as: String.self)
                == "service_completed_successfully"
        )
        #expect(
            try value(services, "migrate", "depends_on", "postgres", "condition", as: String.self) == "service_healthy"
        )
        let deploy = Self.root.appending(path: "deploy")
        let build: [String: String] = try value(services, "worker", "build")
        let context = deploy.appending(path: try #require(build["context"]))
        #expect(
            FileManager.default.fileExists(atPath: context.appending(path: try #require(build["dockerfile"])).path())
        )
        let ofPostgres: [String] = try value(services, "postgres", "volumes")
        let mounts =
            try value(services, "worker", "volumes", as: [String].self) + ofPostgres.filter { $0.hasPrefix(".") }
        for mount in mounts {
            let source = String(try #require(mount.split(separator: ":").first))
            #expect(FileManager.default.fileExists(atPath: deploy.appending(path: source).path()), "\(source)")
        }
        // No service connects as the superuser, and workers connect with no more than a worker's rights.
        for (service, role) in [("worker", "worker"), ("migrate", "owner"), ("admin", "admin")] {
            let url: String = try value(services, service, "environment", "DATABASE_URL")
            #expect(url.hasPrefix("postgresql://\(role):"))
        }
        #expect(try value(services, "postgres", "environment", "POSTGRES_USER", as: String.self) == "postgres")
        let roles = try text("postgres-roles.sql")
        #expect(roles.contains("create role worker login password :'worker_password' in role breakwater_worker;"))
        #expect(!roles.contains("superuser"))
        let command: [String] = try value(services, "migrate", "command")
        _ = try #require(try RootCommand.parseAsRoot(command) as? MigrateCommand)
    }

    @Test("the manifests fit together: probes, selectors, secrets, names")
    func manifests() throws {
        let kustomization = try #require(try yaml("kubernetes/kustomization.yaml").first)
        let resources: [String] = try value(kustomization, "resources")
        var documents: [String: [String: Any]] = [:]
        for resource in resources {
            for document in try yaml("kubernetes/\(resource)") {
                documents[try value(document, "kind")] = document
            }
        }
        let pod: [String: Any] = try value(documents["Deployment"], "spec", "template", "spec")
        let container: [String: Any] = try value(pod, "containers", 0)
        #expect(try value(container, "livenessProbe", "httpGet", "path", as: String.self) == "/livez")
        #expect(try value(container, "readinessProbe", "httpGet", "path", as: String.self) == "/readyz")
        let port = try value(container, "ports", 0, "containerPort", as: Int.self)
        let environment: [[String: Any]] = try value(container, "env")
        #expect(environment.first { $0["name"] as? String == "BREAKWATER_METRICS" }?["value"] as? String == ":\(port)")
        #expect(try text("Dockerfile").contains("EXPOSE \(port)"))

        let labels: [String: String] = try value(documents["Deployment"], "spec", "template", "metadata", "labels")
        for kind in ["Deployment", "PodDisruptionBudget"] {
            #expect(try value(documents[kind], "spec", "selector", "matchLabels", as: [String: String].self) == labels)
        }
        // The scaler sets the number of replicas, so the manifest must not set it too.
        #expect((documents["Deployment"]?["spec"] as? [String: Any])?["replicas"] == nil)
        let name: String = try value(documents["Deployment"], "metadata", "name")
        #expect(try value(documents["ScaledObject"], "spec", "scaleTargetRef", "name", as: String.self) == name)
        #expect(
            try value(documents["ScaledObject"], "spec", "triggers", 0, "authenticationRef", "name", as: String.self)
                == value(documents["TriggerAuthentication"], "metadata", "name", as: String.self)
        )

        var secrets: [String: Set<String>] = [:]
        for secret in try yaml("kubernetes/secrets.example.yaml") {
            let keys: [String: String] = try value(secret, "stringData")
            secrets[try value(secret, "metadata", "name")] = Set(keys.keys)
            // Debian's libpq 15 takes `system` for the name of a file.
            #expect(keys.values.allSatisfy { !$0.contains("sslrootcert=system") })
        }
        let migration: [String: Any] = try value(documents["Job"], "spec", "template", "spec", "containers", 0)
        for container in [container, migration] {
            let variables: [[String: Any]] = try value(container, "env")
            let sources = variables.compactMap { $0["valueFrom"] as? [String: [String: String]] }
            for reference in sources.compactMap({ $0["secretKeyRef"] }) {
                #expect(secrets[reference["name"] ?? ""]?.contains(reference["key"] ?? "") == true, "\(reference)")
            }
            let arguments: [String] = try value(container, "args")
            _ = try RootCommand.parseAsRoot(arguments)
            #expect(try value(container, "securityContext", "readOnlyRootFilesystem", as: Bool.self))
            #expect(try !value(container, "securityContext", "allowPrivilegeEscalation", as: Bool.self))
        }
        let scaler: [String: String] = try value(documents["TriggerAuthentication"], "spec", "secretTargetRef", 0)
        #expect(secrets[scaler["name"] ?? ""]?.contains(scaler["key"] ?? "") == true)
        let user: Int = try value(pod, "securityContext", "runAsUser")
        #expect(try text("Dockerfile").contains("USER \(user):\(user)"))
    }

    @Test(
        "the scaler's query, as the scaler's user, counts no jobs behind an open circuit",
        .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)")
    )
    func scaler() async throws {
        let object = try #require(try yaml("kubernetes/scaledobject.yaml").first)
        let query: String = try value(object, "spec", "triggers", 0, "metadata", "query")
        let configuration = try configuration().worker
        try await withTestDatabase { database in
            try await database.running("handlers: { a: { exec: { command: [cat] } }, b: { exec: { command: [cat] } } }")
            { _ in
                try await waitUntil("the worker has registered") {
                    try await database.number("select count(*) from breakwater.circuit") == 2
                }
            }
            try await database.query(
                "insert into breakwater.job (kind) select k from unnest(array['a', 'b']) k, generate_series(1, 500)"
            )
            try await database.query("select breakwater.open_circuit('a', 'a test')")
            try await database.withRole("breakwater_monitor") { url in
                let scaler = try await Connection.connect(ConnectionOptions(url), logger: Logger(label: "test"))
                let figure = try await scaler.query("select (\(query))::int8")[0][0].int()
                #expect(figure == 500)
                await scaler.close()
            }
        }
        // A worker runs this many jobs at once; a higher target per worker would leave jobs waiting.
        let target: String = try value(object, "spec", "triggers", 0, "metadata", "targetQueryValue")
        #expect(try #require(Int(target)) <= configuration.concurrency)
    }
}
