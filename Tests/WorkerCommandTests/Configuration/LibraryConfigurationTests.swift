import Breakwater
import BreakwaterLibrary
import Foundation
import Logging
import TestPrograms
import Testing

@testable import WorkerCommand

@Suite("A library handler in a configuration") struct LibraryConfigurationTests {
    @Test("runs as many jobs at once as it has threads, unless the file says otherwise")
    func concurrency() async throws {
        let library = try await LibraryBuild.build("probe.c")
        func handler(_ keys: String, _ more: String = "") throws -> HandlerRegistration {
            try load("handlers: { a: { library: { path: '\(library)', \(keys) } \(more) } }").worker.handlers[0]
        }
        #expect(try handler("").settings.concurrency == 4)
        #expect(try handler("threads: 7").settings.concurrency == 7)
        #expect(try handler("threads: 7", ", concurrency: 2").settings.concurrency == 2)
        #expect(try handler("threads: 7").plugin is LibraryPlugin)
        #expect(try handler("threads: 7").plugin.capacity == 7)
    }

    @Test("gives its settings as JSON, with variables, and shows them without secrets")
    func settings() async throws {
        let library = try await LibraryBuild.build("probe.c")
        let loaded = try load(
            """
            handlers:
              a:
                library:
                  path: ${LIBRARY}
                  settings: { model: "${MODEL}", api_key: abc, layers: [1, { token: def }], deep: { on: true } }
            """,
            environment: ["LIBRARY": library, "MODEL": "large \"one\""]
        )
        let job = Job(kind: "a", payload: "{}")
        let plugin = loaded.worker.handlers[0].plugin
        let context = JobContext(job: job, deadline: .now + .seconds(60), logger: Logger(label: "test"))
        let outcome = try await plugin.run(job, context: context)
        await plugin.stop()
        guard case .succeeded(let result?) = outcome else {
            Issue.record("\(outcome)")
            return
        }
        let settings =
            #""settings":{"model":"large \"one\"","api_key":"abc","layers":[1,{"token":"def"}],"deep":{"on":true}}"#
        #expect(result.contains(settings), "\(result)")
        let shown =
            #"settings: {"model":"${MODEL}","api_key":"***","layers":[1,{"token":"***"}],"deep":{"on":true}}"#
        #expect(loaded.effectiveText.contains(shown), "\(loaded.effectiveText)")
    }

    @Test("is refused with the key at fault")
    func refused() async throws {
        let library = try await LibraryBuild.build("probe.c")
        func refusal(_ section: String) -> String {
            let error = #expect(throws: ConfigurationError.self) {
                try load("handlers: { a: { library: { \(section) } } }")
            }
            return error?.description ?? ""
        }
        let cases = [
            ("threads: 2", "worker.yaml:1: handlers.a.library: there is no library; give the path of one"),
            ("path: probe.so", "handlers.a.library.path: \"probe.so\" is no path with a slash"),
            (
                "path: /no/such.so",
                "handlers.a.library.path: the library /no/such.so cannot be loaded: it does not exist"
            ),
            (
                "path: /etc/passwd",
                "handlers.a.library.path: the library /etc/passwd cannot be loaded: it is not a shared"
            ),
            (
                "path: '\(library)', entry: entry_version",
                "handlers.a.library.path: the library \(library) is built for"
            ),
            ("path: '\(library)', entry: main", "handlers.a.library.entry: the library \(library) exports no function"),
            ("path: '\(library)', threads: 0", "handlers.a.library.threads: '0' is not allowed; give a whole number"),
            (
                "path: '\(library)', stack: 1KiB",
                "handlers.a.library.stack: '1KiB' is not allowed; give a size from 256KiB"
            ),
            ("path: '\(library)', max_result: 2GiB", "handlers.a.library.max_result: '2GiB' is not allowed"),
            ("path: '\(library)', settings: [1]", "handlers.a.library.settings: a list is not a mapping"),
            ("path: '\(library)', settings: { a: '${NO}' }", "handlers.a.library.settings: "),
            (
                "path: '\(library)', thread: 1",
                "handlers.a.library.thread: this key is not known; did you mean 'threads'?"
            ),
        ]
        for (section, message) in cases {
            let refusal = refusal(section)
            #expect(refusal.contains(message), "\(refusal)")
        }
    }
}
