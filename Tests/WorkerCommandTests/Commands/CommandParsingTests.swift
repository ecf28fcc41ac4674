import ArgumentParser
import BreakwaterAdmin
import Foundation
import Libpq
import Testing

@testable import WorkerCommand

@Suite("Arguments")
struct CommandParsingTests {
    @Test("of run become settings, read by the file's rules")
    func run() throws {
        let command = try #require(
            try RootCommand.parseAsRoot([
                "run", "--config", "w.yaml", "--database", "postgresql:///x", "--queues", "a, b", "--concurrency", "5",
                "--lease", "9s", "--shutdown-grace", "1m", "--poll-interval", "1s", "--no-listen",
                "--listen-database", "postgresql:///y", "--name", "n",
                "--log-level", "debug", "--log-levels", "a=info,b=trace", "--log-format", "json",
                "--metrics", "127.0.0.1:9", "--traces", "http://127.0.0.1:9", "--check",
            ]) as? RunCommand
        )
        #expect(
            command.flags == [
                "database": .one("postgresql:///x"), "queues": .list(["a", "b"]), "concurrency": .one("5"),
                "lease": .one("9s"), "shutdown_grace": .one("1m"), "poll_interval": .one("1s"),
                "listen": .one("false"), "listen_database": .one("postgresql:///y"), "name": .one("n"),
                "log_level": .one("debug"), "log_levels": .list(["a=info", "b=trace"]), "log_format": .one("json"),
                "metrics": .one("127.0.0.1:9"), "traces": .one("http://127.0.0.1:9"),
            ]
        )
        #expect(Set(command.flags.keys) == Set(TopLevelSettings.keys))
        #expect(command.check)
    }

    @Test("of enqueue become a job")
    func enqueue() throws {
        let command = try #require(
            try RootCommand.parseAsRoot([
                "enqueue", "email.send", "{}", "--queue", "bulk", "--priority", "0", "--in", "1h30m",
                "--max-attempts", "3", "--unique-key", "k",
            ]) as? EnqueueCommand
        )
        #expect(command.kind == "email.send")
        #expect(command.queue == "bulk")
        #expect(command.delay?.duration == .seconds(5400))
        #expect(command.maxAttempts == 3)
        let timed = try #require(
            try RootCommand.parseAsRoot(["enqueue", "k", "--run-at", "2030-01-31T08:00:00Z"]) as? EnqueueCommand
        )
        #expect(timed.runAt?.date == Date(timeIntervalSince1970: 1_896_076_800))
        #expect(timed.payload == nil)
    }

    @Test(
        "are refused when they are wrong",
        arguments: [
            ["run"], ["enqueue"], ["enqueue", ""], ["enqueue", "k", "--priority", "10"],
            ["enqueue", "k", "--in", "30"],
            ["enqueue", "k", "--run-at", "tomorrow"],
            ["enqueue", "k", "--in", "1s", "--run-at", "2030-01-31T08:00:00Z"],
            ["enqueue", "k", "--max-attempts", "0"], ["circuits", "open", "k"],
            ["circuits", "open", "k", "--reason", ""],
            ["circuits", "open", "--reason", "x"], ["circuits", "history", "--key", "x"],
            ["circuits", "history", "--limit", "0"],
            ["circuits", "open", "k", "--reason", "x", "--for", "1h", "--until", "2030-01-31T08:00:00Z"],
            ["circuits", "reset", "k", "--reason", "x", "--for", "1h"], ["circuits", "probe", "k"],
            ["circuits", "probe", "k", "--reason", ""], ["circuits", "probe", "k", "--reason", "x", "--for", "1h"],
            ["job"],
            ["job", "x"], ["cancel"], ["run-now"],
            ["pause", "--reason", "x"], ["pause", "--queue", "a", "--kind", "b", "--reason", "x"],
            ["pause", "--queue", "a"], ["pause", "--queue", "", "--reason", "x"], ["resume"],
            ["drain", "--reason", "x"], ["drain", "a"], ["drain", "a", "--reason", ""], ["undrain"],
            ["set-priority", "1"], ["set-priority", "--to", "1"], ["set-priority", "1", "--to", "10"],
            ["rename-kind"], ["rename-kind", "a"], ["rename-kind", "a", "a"], ["rename-kind", "a", ""],
            ["cancel", "1", "--reason", ""], ["cancel", "1", "--actor", ""],
            ["dead-letters", "redrive"], ["dead-letters", "purge"],
            ["dead-letters", "redrive", "1", "--all"], ["dead-letters", "redrive", "1", "--kind", "k"],
            ["dead-letters", "purge", "1", "--older-than", "1d"], ["dead-letters", "list", "--limit", "0"],
            ["dead-letters", "redrive", "1", "--rate", "5"], ["dead-letters", "redrive", "--all", "--rate", "0"],
            ["dead-letters", "redrive", "--all", "--portion", "100001"], ["enqueue", "k", "--rate", "5"],
            ["enqueue", "k", "{}", "--file", "f"], ["enqueue", "--file", "f", "--unique-key", "u"],
            ["enqueue", "--file", "f", "--import", "a", "--from-line", "2"], ["enqueue", "--file", ""],
            ["enqueue", "--file", "f", "--portion", "10001"], ["status", "--interval", "1s"],
            ["status", "--watch", "--interval", "1ms"], ["tail", "--outcome", "happy"], ["tail", "--kind", ","],
            ["dead-letters", "show", "x"], ["nonsense"], ["status", "--nonsense"],
        ]
    )
    func refused(arguments: [String]) {
        #expect(throws: (any Error).self) { try RootCommand.parseAsRoot(arguments) }
    }

    @Test("name the default subcommands")
    func defaults() throws {
        #expect(try RootCommand.parseAsRoot(["circuits"]) is CircuitsCommand.List)
        #expect(try RootCommand.parseAsRoot(["dead-letters", "--kind", "k"]) is DeadLettersCommand.List)
    }

    @Test("choose the database: by a flag, by our variable, or by the common variable")
    func database() {
        let environment = ["DATABASE_URL": "postgresql:///url", "BREAKWATER_DATABASE": "postgresql:///own"]
        #expect(AdminDatabase.options("x=1", environment: environment).conninfo == "x=1")
        #expect(AdminDatabase.options(nil, environment: environment).conninfo == "postgresql:///own")
        #expect(AdminDatabase.options(nil, environment: ["DATABASE_URL": "u"]).conninfo == "u")
        #expect(AdminDatabase.options(nil, environment: [:]).conninfo == "")
    }
}
