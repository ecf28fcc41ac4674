import Breakwater
import BreakwaterLibrary
import BreakwaterTesting
import TestPrograms
import Testing

@Suite("The library plugin conforms") struct ConformanceTests {
    private static func suite(_ path: String) -> PluginConformance {
        func job(_ word: String) -> Job { Job(kind: "test", payload: "\"\(word)\"") }
        var suite = PluginConformance(scenarios: [
            .succeeds(job("succeed")),
            .succeeds(job("twice"), result: "2"),
            .fails(job("fail"), name: "probe.failed"),
            .unavailable(job("unavailable"), name: "probe.down"),
            .throttled(job("throttle"), name: "probe.rate"),
            .discards(job("discard"), name: "probe.bad"),
            .snoozes(job("snooze"), for: .milliseconds(1500)),
            .unable(job("unable"), name: "probe.noGPU"),
            .releases(job("release")),
            .answers(job("not JSON")),
            .answers(job("odd texts")),
            .fails(job("nothing"), name: "library.noOutcome"),
            .fails(job("NULL message"), name: "library.invalidOutcome"),
            .waits(job("poll")),
            .waits(job("wait")),
            .echoes(Job(kind: "echo")),
        ]) { try LibraryPlugin(path: path) }
        suite.patience = .seconds(240)
        return suite
    }

    private static func withProbe(_ body: (String) async throws -> Void) async throws {
        try await withTemporaryDirectory { directory in
            try await LibraryBuild.copyProbe(to: directory + "/probe.so")
            try await body(directory + "/probe.so")
        }
    }

    @Test("to what every plugin promises")
    func conforms() async throws {
        try await Self.withProbe { try await Self.suite($0).check() }
    }

    @Test("and leaves no descriptor and no process behind")
    func leavesNothing() async throws {
        try await runAlone("BreakwaterLibraryTests.ConformanceTests/leavesNothing") {
            try await Self.withProbe { path in
                var suite = Self.suite(path)
                suite.isAlone = true
                try await suite.check()
            }
        }
    }
}
