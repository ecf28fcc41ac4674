import ArgumentParser
import Testing

@testable import WorkerBench
@testable import WorkerCommand

@Suite("Arguments of bench")
struct BenchParsingTests {
    @Test("are read by an executable that adds the command, and by no other")
    func added() throws {
        let arguments = ["bench", "drain", "--jobs", "9"]
        let command = try WorkerCommand.$addedSubcommands.withValue([BenchCommand.self]) {
            try RootCommand.parseAsRoot(arguments)
        }
        #expect(command is BenchDrainCommand)
        #expect(throws: (any Error).self) { try RootCommand.parseAsRoot(arguments) }
    }

    @Test("of drain become a load")
    func drain() throws {
        let command = try #require(
            try BenchCommand.parseAsRoot([
                "drain", "--jobs", "9", "--processes", "2", "--priorities", "3", "--feed", "4", "--limit",
                "5s",
                "--no-fill", "--kinds", "2", "--queues", "3", "--idle-kinds", "1", "--handler-time", "1ms",
                "--concurrency", "256", "--circuit-key", "text", "--poll-interval", "200ms", "--no-listen",
                "--force", "--leave-traces", "--json",
            ]) as? BenchDrainCommand
        )
        #expect(command.jobs == 9)
        #expect(command.processes == 2)
        #expect(command.feed == 4)
        #expect(!command.fill)
        #expect(command.options.force && command.options.leaveTraces && command.options.output.json)
        let load = command.load.load
        #expect(load.kindNames == ["bench.kind1", "bench.kind2"])
        #expect(load.queueNames == ["bench.queue1", "bench.queue2", "bench.queue3"])
        #expect(load.idleKindNames == ["bench.idle1"])
        #expect(load.handlerTime == .milliseconds(1))
        #expect(load.concurrency == 256)
        #expect(load.circuitKey == "text")
        #expect(load.pollInterval == .milliseconds(200))
        #expect(!load.listens)
    }

    @Test("of soak become a load")
    func soak() throws {
        let command = try #require(
            try BenchCommand.parseAsRoot([
                "soak", "--duration", "1h", "--rate", "2000", "--failing", "20", "--scheduled", "0",
                "--interval", "10s", "--svg", "s.svg",
            ]) as? BenchSoakCommand
        )
        #expect(command.duration?.duration == .seconds(3600))
        #expect(command.rate == 2000)
        #expect(command.failing == 20)
        #expect(command.scheduled == 0)
        #expect(command.interval?.duration == .seconds(10))
        #expect(command.svg == "s.svg")
    }

    @Test("make a worker process handle the same load")
    func sameLoad() throws {
        var load = BenchLoad(kinds: 4, queues: 3, idleKinds: 2, handlerTime: .milliseconds(5), concurrency: 7)
        load.circuitKey = "host"
        load.history = true
        load.historyKey = "customer"
        load.pollInterval = .seconds(2)
        load.listens = false
        let command = try #require(
            try BenchCommand.parseAsRoot(["work"] + load.arguments) as? BenchWorkCommand
        )
        #expect(command.load.load == load)
    }

    @Test(
        "are refused when they are wrong",
        arguments: [
            ["drain", "--jobs", "0"], ["drain", "--jobs", "many"], ["drain", "--processes", "0"],
            ["drain", "--processes", "65"], ["drain", "--priorities", "11"], ["drain", "--kinds", "0"],
            ["drain", "--queues", "101"], ["drain", "--idle-kinds", "-1"], ["drain", "--handler-time", "5"],
            ["drain", "--limit", "soon"], ["drain", "--feed", "-1"], ["drain", "--concurrency", "0"],
            ["drain", "--poll-interval", "0s"], ["drain", "--limit", "0s"],
            ["latency", "--jobs", "0"], ["latency", "--interval", "0s"],
            ["enqueue", "--clients", "0"], ["enqueue", "--batch", "0"], ["enqueue", "--duration", "0s"],
            ["soak", "--rate", "0"], ["soak", "--failing", "101"], ["soak", "--scheduled", "-1"],
            ["soak", "--duration", "0s"], ["soak", "--duration", "5s", "--interval", "6s"], ["nonsense"],
        ]
    )
    func refused(arguments: [String]) {
        #expect(throws: (any Error).self) { try BenchCommand.parseAsRoot(arguments) }
    }
}
