import Breakwater
import BreakwaterStdio
import BreakwaterTesting
import Foundation
import Testing

@Suite("A process that ends, or is ended") struct ProcessEndTests {
    @Test(
        "a crash is the failure of the job that ran, and of no other",
        arguments: [
            ("os._exit(3)", "exit.3"), ("os.kill(os.getpid(), signal.SIGKILL)", "signal.9"),
            ("os._exit(0)", "exit.0"),
        ]
    )
    func crash(how: String, name: String) async throws {
        let log = RecordedLog()
        let settings = testSettings {
            $0.processes = 2
            $0.ahead = 3
        }
        let handler = """
            if job.payload == "crash":
                print("the last words", file=sys.stderr, flush=True)
                \(how)
            time.sleep(0.01)
            return job.id
            """
        try await withPython(handler, log: log, settings: settings) { plugin in
            try await withThrowingTaskGroup(of: (Int64, JobOutcome).self) { group in
                for number in 1...30 {
                    let job = Job(id: Int64(number), kind: "test", payload: number % 10 == 0 ? "\"crash\"" : "1")
                    group.addTask { (job.id, try await run(plugin, job)) }
                }
                for try await (id, outcome) in group {
                    guard id % 10 == 0 else {
                        #expect(outcome == .succeeded(result: "\(id)"))
                        continue
                    }
                    guard case .failed(let failure) = outcome else {
                        Issue.record("\(outcome) is no failure")
                        continue
                    }
                    #expect(failure.name == name)
                    #expect(failure.message.contains("python3"))
                    #expect(failure.message.hasSuffix(": the last words"))
                }
            }
        }
        #expect(log.warnings.count { $0.contains("a process of python3 ended") } == 3)
    }

    @Test("a process that cannot start leaves its jobs unable, and says why")
    func cannotStart() async throws {
        let log = RecordedLog()
        let script = "echo the reason >&2; exit 5"
        try await withPlugin(["sh", "-c", script], log: log) { plugin in
            for _ in 0..<2 {
                guard case .unable(let failure) = try await run(plugin) else {
                    Issue.record("not unable")
                    return
                }
                #expect(failure.name == "stdio.start")
                #expect(failure.message.contains("status 5") && failure.message.contains("the reason"))
            }
        }
        #expect(log.warnings.contains { $0.contains("no process of sh could be started") })
    }

    @Test("a program that is gone leaves its jobs unable, and runs once it is back")
    func gone() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/handler.sh"
            let content = """
                #!/bin/sh
                read -r hello
                echo '{"type":"hello","protocol":1}'
                read -r run
                echo '{"type":"result","run":'"${run#*\\"run\\":}" | sed 's/,"id".*/,"outcome":"succeeded"}/'
                cat >/dev/null
                """
            func write() throws {
                try content.write(toFile: file, atomically: true, encoding: .utf8)
                try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: file)
            }
            try write()
            let plugin = try StdioPlugin(command: [file], settings: testSettings())
            try FileManager.default.removeItem(atPath: file)
            guard case .unable(let failure) = try await run(plugin) else {
                Issue.record("not unable")
                return
            }
            #expect(failure.name == "exec.notFound")
            #expect(failure.message.contains(file))
            try write()
            try await waitUntil("it runs") { try await run(plugin) == .succeeded() }
            await plugin.stop()
        }
    }

    /// Each program says hello, and then does something that it must not.
    private static let breaches: [String: (program: String, name: String, words: String)] = [
        "text": ("hear(); say('ready'); hear()", "stdio.protocol", "not a JSON object: ready"),
        "an empty line": ("hear(); say(''); hear()", "stdio.protocol", "(an empty line)"),
        "no type": ("hear(); say('{}'); hear()", "stdio.protocol", "no \"type\""),
        "an unknown type": ("hear(); say('{\"type\":\"x\"}'); hear()", "stdio.protocol", "unknown \"type\""),
        "another run": ("hear(); succeed(99); hear()", "stdio.protocol", "the run 99, which it does not have"),
        "no error": (
            "r = hear()['run']; say('{\"type\":\"result\",\"run\":%d,\"outcome\":\"failed\"}' % r); hear()",
            "stdio.protocol", "needs an \"error\""
        ),
        "an unknown outcome": (
            "r = hear()['run']; say('{\"type\":\"result\",\"run\":%d,\"outcome\":\"done\"}' % r); hear()",
            "stdio.protocol", "unknown \"outcome\""
        ),
        "a snooze without a time": (
            "r = hear()['run']; say('{\"type\":\"result\",\"run\":%d,\"outcome\":\"snoozed\"}' % r); hear()",
            "stdio.protocol", "\"retry_after\" above 0"
        ),
        "a second hello": ("hear(); say('{\"type\":\"hello\",\"protocol\":1}'); hear()", "stdio.protocol", "twice"),
        "a fraction above one": (
            "r = hear()['run']; say('{\"type\":\"progress\",\"run\":%d,\"fraction\":2}' % r); hear()",
            "stdio.protocol", "not from 0 to 1"
        ),
        "a long line": (
            "hear(); sys.stdout.write('{\"type\":\"' + 'x' * 3000); sys.stdout.flush(); hear()",
            "stdio.flood", "more than 2048 bytes"
        ),
        "a long line in pieces": (
            "hear()\nwhile True: sys.stdout.write('x' * 100); sys.stdout.flush()", "stdio.flood", "more than 2048 bytes"
        ),
        "many messages": (
            "r = hear()['run']\nwhile True: say('{\"type\":\"progress\",\"run\":%d,\"fraction\":0.5}' % r)",
            "stdio.flood", "more than 1000 messages a second"
        ),
        "no standard output": ("hear(); os.close(1); time.sleep(60)", "stdio.protocol", "closed its standard output"),
    ]

    @Test("a process that breaks the protocol is ended with a clear word", arguments: breaches.keys.sorted())
    func breach(what: String) async throws {
        let breach = try #require(Self.breaches[what])
        let log = RecordedLog()
        try await withRawProcess(breach.program, log: log, settings: testSettings { $0.maxLineBytes = 2048 }) {
            plugin in
            let outcome = try await run(plugin)
            #expect(outcome.failure?.name == breach.name, "\(outcome)")
            #expect(outcome.failure?.message.contains(breach.words) == true, "\(outcome)")
            // A new process may do the same later, when it is drained.
            let warnings = log.warnings
            #expect(warnings.count == 1, "\(warnings)")
            #expect(warnings.first?.contains("is ended") == true)
            #expect(warnings.first?.contains(breach.words) == true)
        }
    }

    @Test(
        "a process whose hello is wrong cannot be used",
        arguments: [
            (#"{"type":"hello","protocol":2}"#, "version 1"), (#"{"type":"hello"}"#, "version 1"),
            (#"{"type":"hello","protocol":1,"jobs":0}"#, "\"jobs\""),
            (#"{"type":"hello","protocol":1,"can":"cancel"}"#, "\"can\""),
            (#"{"type":"result","run":1,"outcome":"succeeded"}"#, "first line is not a hello"),
            (#"{"type":"heartbeat"}"#, "first line is not a hello"), ("Starting up…", "not a JSON object"),
        ]
    )
    func wrongHello(hello: String, words: String) async throws {
        try await withRawProcess("hear()", hello: hello) { plugin in
            guard case .unable(let failure) = try await run(plugin) else {
                Issue.record("not unable")
                return
            }
            #expect(failure.message.contains(words), "\(failure)")
        }
    }

    @Test("a process that says no hello in time is ended")
    func noHello() async throws {
        let settings = testSettings { $0.startTimeout = .milliseconds(200) }
        try await withPlugin(["sleep", "300"], settings: settings) { plugin in
            guard case .unable(let failure) = try await run(plugin) else {
                Issue.record("not unable")
                return
            }
            #expect(failure.message.contains("did not say hello within 0.2 seconds"))
        }
    }

    @Test("a process that promised heartbeats and is silent is ended, also if it ignores SIGTERM")
    func silent() async throws {
        let settings = testSettings { $0.silence = .seconds(1) }
        let hello = #"{"type":"hello","protocol":1,"can":["heartbeat"]}"#
        let program = "signal.signal(signal.SIGTERM, signal.SIG_IGN); hear()\nwhile True: time.sleep(1)"
        try await withRawProcess(program, hello: hello, settings: settings) { plugin in
            let outcome = try await run(plugin)
            #expect(outcome.failure?.name == "stdio.silent")
            #expect(outcome.failure?.message.contains("wrote nothing for 1.0 seconds") == true)
        }
    }

    @Test("the Python library's heartbeats keep a long job alive")
    func heartbeats() async throws {
        try await withPython("time.sleep(2.5)", settings: testSettings { $0.silence = .seconds(1) }) { plugin in
            try await expect(plugin, endsAs: .succeeded())
        }
    }

    @Test("a process without a job may be silent")
    func idle() async throws {
        try await withPython("return 1", settings: testSettings { $0.silence = .seconds(1) }) { plugin in
            try await expect(plugin, endsAs: .succeeded(result: "1"))
            let process = try #require(plugin.processes.first)
            try await Task.sleep(for: .seconds(1.5))
            try await expect(plugin, endsAs: .succeeded(result: "1"))
            #expect(plugin.processes == [process])
        }
    }

    @Test("what a process leaves behind is killed when it ends")
    func leftBehind() async throws {
        try await withTemporaryDirectory { directory in
            let file = directory + "/pid"
            let handler = """
                subprocess.run(["setsid", "-f", "sh", "-c", "echo $$ >\(file); exec sleep 300"], stderr=subprocess.DEVNULL)
                while not (os.path.exists("\(file)") and os.path.getsize("\(file)")): time.sleep(0.01)
                os._exit(1)
                """
            try await withPython(handler) { plugin in
                let failed = try await run(plugin)
                #expect(failed.failure?.name == "exit.1")
                let text = try String(contentsOfFile: file, encoding: .utf8)
                let process = try #require(Int32(text.trimmingCharacters(in: .whitespacesAndNewlines)))
                try await waitUntil("it is killed") { isGone(process) }
            }
        }
    }
}
