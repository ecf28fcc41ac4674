// swift-tools-version: 6.2

import PackageDescription

let package = Package(
    name: "breakwater",
    products: [
        .executable(name: "worker", targets: ["worker"]),
        .library(name: "Breakwater", targets: ["Breakwater"]),
        .library(name: "BreakwaterDashboard", targets: ["BreakwaterDashboard"]),
        .library(name: "BreakwaterEndpoints", targets: ["BreakwaterEndpoints"]),
        .library(name: "BreakwaterExec", targets: ["BreakwaterExec"]),
        .library(name: "BreakwaterHTTP", targets: ["BreakwaterHTTP"]),
        .library(name: "BreakwaterLibrary", targets: ["BreakwaterLibrary"]),
        .library(name: "BreakwaterMetrics", targets: ["BreakwaterMetrics"]),
        .library(name: "BreakwaterOTLP", targets: ["BreakwaterOTLP"]),
        .library(name: "BreakwaterSQL", targets: ["BreakwaterSQL"]),
        .library(name: "BreakwaterStdio", targets: ["BreakwaterStdio"]),
        .library(name: "BreakwaterTesting", targets: ["BreakwaterTesting"]),
        .library(name: "WorkerCommand", targets: ["WorkerCommand"]),
        .library(name: "Libpq", targets: ["Libpq"]),
    ],
    dependencies: [
        .package(url: "https://github.com/HdrHistogram/hdrhistogram-swift", from: "0.2.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing", from: "1.7.3"),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.100.0"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.0"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // PostgreSQL's client library, and the Swift shim over it.
        .systemLibrary(name: "CLibpq", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .target(
            name: "Libpq",
            dependencies: ["CLibpq", .product(name: "Logging", package: "swift-log")]
        ),
        .testTarget(name: "LibpqTests", dependencies: ["Libpq", "TestPrograms"]),

        // The schema: the files of `sql/`, written into a Swift source at build time.
        .executableTarget(name: "embed-schema"),
        .plugin(
            name: "EmbedSchema",
            capability: .buildTool(),
            dependencies: ["embed-schema"],
            path: "Sources/EmbedSchema"
        ),

        // The commit, written into a Swift source of the executable.
        .plugin(name: "EmbedCommit", capability: .buildTool(), path: "Sources/EmbedCommit"),

        // The core: claiming, circuits, retries, settling.
        .target(
            name: "Breakwater",
            dependencies: [
                "Libpq",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ],
            plugins: ["EmbedSchema"]
        ),
        .testTarget(
            name: "BreakwaterTests",
            dependencies: ["Breakwater", "BreakwaterSQL", "BreakwaterTesting", "Libpq", "TestPrograms"]
        ),

        // For the command line and the dashboard: one Swift function for each view that they read and each SQL function
        // that they call.
        .target(name: "BreakwaterAdmin", dependencies: ["Libpq"]),

        // What plugins that run programs have in common.
        .target(
            name: "BreakwaterProcess",
            dependencies: ["Breakwater", "CProcess", .product(name: "Logging", package: "swift-log")]
        ),

        // Handler plugins.
        .target(
            name: "BreakwaterExec",
            dependencies: [
                "Breakwater", "BreakwaterProcess", "CProcess", "Libpq",
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
        .testTarget(
            name: "BreakwaterExecTests",
            dependencies: ["BreakwaterExec", "BreakwaterProcess", "BreakwaterTesting", "TestPrograms"]
        ),
        .target(
            name: "BreakwaterStdio",
            dependencies: [
                "Breakwater", "BreakwaterProcess", "CProcess", "Libpq",
                .product(name: "Logging", package: "swift-log"),
            ],
            // The libraries for handlers in other languages.
            exclude: ["Clients"]
        ),
        .testTarget(
            name: "BreakwaterStdioTests",
            dependencies: [
                "BreakwaterProcess", "BreakwaterStdio", "BreakwaterTesting", "Libpq", "TestPrograms", "WorkerCommand",
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
        .target(
            name: "BreakwaterSQL",
            dependencies: ["Breakwater", "Libpq", .product(name: "Logging", package: "swift-log")]
        ),
        // The header that handlers in shared libraries include, and the plugin that loads them.
        .systemLibrary(name: "CBreakwaterHandler"),
        .target(
            name: "BreakwaterLibrary",
            dependencies: [
                "Breakwater", "CBreakwaterHandler", "Libpq", .product(name: "Logging", package: "swift-log"),
            ]
        ),
        .testTarget(
            name: "BreakwaterLibraryTests",
            dependencies: [
                "BreakwaterLibrary", "BreakwaterTesting", "CBreakwaterHandler", "TestPrograms",
                .product(name: "Logging", package: "swift-log"),
            ],
            // Libraries that the tests build.
            exclude: ["Fixtures"]
        ),
        .systemLibrary(name: "CLibcurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CLibcrypto", pkgConfig: "libcrypto", providers: [.apt(["libssl-dev"])]),
        .target(
            name: "BreakwaterHTTP",
            dependencies: [
                "Breakwater", "CLibcrypto", "CLibcurl", "Libpq",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),
        .testTarget(
            name: "BreakwaterHTTPTests",
            dependencies: [
                "BreakwaterExec", "BreakwaterHTTP", "BreakwaterNotify", "BreakwaterTesting", "Libpq", "TestPrograms",
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),

        // Observation: metrics in Prometheus' text form; the HTTP endpoints, the only part that needs NIO; traces.
        .target(
            name: "BreakwaterMetrics",
            dependencies: ["Breakwater", .product(name: "Metrics", package: "swift-metrics")]
        ),
        .target(
            name: "BreakwaterEndpoints",
            dependencies: [
                "Breakwater",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "HummingbirdCore", package: "hummingbird"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTPTypes", package: "swift-nio-extras"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),
        .target(
            name: "BreakwaterOTLP",
            dependencies: [
                "Breakwater", "BreakwaterHTTP",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ]
        ),
        .testTarget(
            name: "BreakwaterObservationTests",
            dependencies: [
                "Breakwater", "BreakwaterEndpoints", "BreakwaterExec", "BreakwaterHTTP", "BreakwaterMetrics",
                "BreakwaterOTLP", "BreakwaterTesting", "Libpq", "TestPrograms",
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
            ]
        ),

        // Notifications of incidents, to a URL or a command.
        .target(
            name: "BreakwaterNotify",
            dependencies: [
                "Breakwater", "BreakwaterExec", "BreakwaterHTTP", "Libpq",
                .product(name: "Logging", package: "swift-log"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),

        // The dashboard: pages for people, rendered on the server.
        .target(
            name: "BreakwaterDashboard",
            dependencies: [
                "Breakwater", "BreakwaterAdmin", "BreakwaterEndpoints", "CLibcrypto", "Libpq",
                .product(name: "HTTPTypes", package: "swift-http-types"),
                .product(name: "Hummingbird", package: "hummingbird"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ],
            // Inside the binary, so that it works from anywhere.
            resources: [
                .embedInCode("Resources/icon.svg"), .embedInCode("Resources/live.js"),
                .embedInCode("Resources/style.css"),
            ]
        ),
        .testTarget(
            name: "BreakwaterDashboardTests",
            dependencies: [
                "BreakwaterAdmin", "BreakwaterDashboard", "BreakwaterEndpoints", "BreakwaterTesting", "Libpq",
                .product(name: "Logging", package: "swift-log"),
            ]
        ),

        // For tests: a migrated database of its own for each suite, conditions with a deadline.
        .target(
            name: "BreakwaterTesting",
            dependencies: ["Breakwater", "Libpq", .product(name: "Logging", package: "swift-log")]
        ),

        // Programs that tests start.
        .systemLibrary(name: "CSpawn", path: "Tests/CSpawn"),
        .target(name: "TestPrograms", dependencies: ["CSpawn"], path: "Tests/TestPrograms"),

        // System calls that Swift's overlays lack.
        .systemLibrary(name: "CProcess"),

        // The command line, as a library for those who link handlers of their own, and as the product `worker`.
        .target(
            name: "WorkerCommand",
            dependencies: [
                "Breakwater", "BreakwaterAdmin", "BreakwaterDashboard", "BreakwaterEndpoints", "BreakwaterExec",
                "BreakwaterHTTP", "BreakwaterLibrary", "BreakwaterMetrics", "BreakwaterNotify", "BreakwaterOTLP",
                "BreakwaterSQL", "BreakwaterStdio", "CProcess", "Libpq",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "Metrics", package: "swift-metrics"),
                .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
                .product(name: "Tracing", package: "swift-distributed-tracing"),
                .product(name: "Yams", package: "Yams"),
            ]
        ),
        // The benchmarks and the soak. Only the product `worker` links them.
        .target(
            name: "WorkerBench",
            dependencies: [
                "Breakwater", "BreakwaterAdmin", "BreakwaterExec", "BreakwaterHTTP", "BreakwaterStdio", "Libpq",
                "WorkerCommand",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Histogram", package: "hdrhistogram-swift"),
                .product(name: "Logging", package: "swift-log"),
            ]
        ),
        .testTarget(
            name: "WorkerBenchTests",
            dependencies: [
                "WorkerBench", "WorkerCommand", .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ]
        ),
        .executableTarget(name: "worker", dependencies: ["WorkerBench", "WorkerCommand"], plugins: ["EmbedCommit"]),
        .executableTarget(
            name: "ExampleWorker",
            dependencies: [
                "Breakwater", "WorkerCommand", .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
            ]
        ),
        .executableTarget(
            name: "ExampleServer",
            dependencies: ["Breakwater", .product(name: "Hummingbird", package: "hummingbird")],
            path: "Examples/hummingbird",
            exclude: ["README.md"]
        ),
        // The worker and the client of scripts/chaos.
        .executableTarget(
            name: "ChaosAgent",
            dependencies: ["Breakwater", "WorkerCommand", "Libpq", .product(name: "Logging", package: "swift-log")]
        ),
        .testTarget(
            name: "WorkerCommandTests",
            dependencies: [
                "BreakwaterAdmin", "BreakwaterTesting", "TestPrograms", "WorkerCommand",
                .product(name: "Yams", package: "Yams"),
            ]
        ),
    ],
    swiftLanguageModes: [.v6]
)

// Parsers of foreign input under seeded random input; or, for `scripts/fuzz`, as a program of libFuzzer's.
let fuzzDependencies: [Target.Dependency] = [
    "Breakwater", "BreakwaterExec", "BreakwaterHTTP", "BreakwaterProcess", "BreakwaterStdio", "CLibpq", "Libpq",
    "WorkerCommand",
    .product(name: "Logging", package: "swift-log"),
]
let isFuzzing = Context.environment["BREAKWATER_FUZZ"] == "1"
package.targets.append(
    isFuzzing
        ? .executableTarget(
            name: "fuzz",
            dependencies: fuzzDependencies,
            path: "Tests/FuzzTests",
            exclude: ["SeededTests.swift"],
            swiftSettings: [.unsafeFlags(["-parse-as-library"])],
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer"])]
        )
        : .testTarget(
            name: "FuzzTests",
            dependencies: fuzzDependencies + ["BreakwaterTesting"],
            exclude: ["LibFuzzer.swift"]
        )
)

// One list of settings for every Swift target.
let warningsAreErrors = Context.environment["BREAKWATER_STRICT"] == "1"
let fuzzed = [
    "Breakwater", "BreakwaterExec", "BreakwaterHTTP", "BreakwaterProcess", "BreakwaterStdio", "Libpq", "WorkerCommand",
    "fuzz",
]
for target in package.targets where ![.system, .plugin].contains(target.type) {
    target.swiftSettings =
        (target.swiftSettings ?? []) + [
            // `any` is written where a value's type is erased at run time.
            .enableUpcomingFeature("ExistentialAny"),
            // An import is visible in its file alone unless it says otherwise.
            .enableUpcomingFeature("InternalImportsByDefault"),
            // A member is found only where its module is imported.
            .enableUpcomingFeature("MemberImportVisibility"),
        ]
    // Instrumented code reports its coverage to libFuzzer. Tools are left out: they would lose their own `main`.
    if isFuzzing, fuzzed.contains(target.name) {
        target.swiftSettings?.append(.unsafeFlags(["-sanitize=fuzzer"]))
    }
    // In CI, and for our own targets only: warnings in dependencies are not ours to mend.
    if warningsAreErrors {
        target.swiftSettings?.append(.treatAllWarnings(as: .error))
    }
}

// For `scripts/test --only`: one test target, and what it needs.
if let only = Context.environment["BREAKWATER_ONLY"], !only.isEmpty {
    let targets = Dictionary(uniqueKeysWithValues: package.targets.map { ($0.name, $0) })
    var needed: Set<String> = ["EmbedCommit", "EmbedSchema", "embed-schema"]
    // Some tests of the command line start these.
    var open =
        [only] + (only == "WorkerCommandTests" ? ["worker", "ExampleWorker", "ExampleServer", "ChaosAgent"] : [])
    while let name = open.popLast() {
        guard let target = targets[name], needed.insert(name).inserted else { continue }
        for case .byNameItem(let dependency, _) in target.dependencies { open.append(dependency) }
    }
    package.targets.removeAll { !needed.contains($0.name) }
    package.products = []
}
