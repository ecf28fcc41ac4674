import Breakwater
import BreakwaterProcess

/// Checks a program against the protocol: it uses the program as a worker would, and a little harder.
package struct StdioCheck {
    /// One thing that was checked.
    package struct Finding: Sendable, Equatable {
        package enum Verdict: Sendable, Equatable { case passed, failed, skipped }

        package var check: String
        package var verdict: Verdict
        /// What was seen, or why it was skipped.
        package var note: String
    }

    private let program: Program
    /// The payload of the jobs, as JSON text.
    package var payload = "{}"
    /// The payload of a job that takes three seconds or more; nil if there is none.
    package var slowPayload: String?
    package var kind = "check"
    /// How many jobs the process is asked to run at once.
    package var jobs = 4
    /// How long an answer may take.
    package var timeout = Duration.seconds(10)
    package var startTimeout = Duration.seconds(30)
    /// Receives the lines of the program's standard error.
    package var log: @Sendable (String) -> Void = { _ in }
    /// Receives the findings as they come.
    package var report: (Finding) -> Void = { _ in }

    private static let maxLineBytes = 1 << 20
    private static let heartbeat = Duration.seconds(1)

    /// - Throws: ``StdioPluginError`` when there is no such program.
    package init(command: [String]) throws {
        do {
            program = try Program(
                command: command,
                environment: [:],
                inherit: Program.defaultInheritance + ["PYTHONPATH", "NODE_PATH", "RUBYLIB", "PWD"],
                workingDirectory: nil
            )
        } catch {
            throw StdioPluginError(error)
        }
    }

    /// Runs all checks on the calling thread.
    ///
    /// - Returns: Whether none failed.
    package func run() -> Bool {
        var session = Session(check: self)
        session.run()
        return session.isFine
    }

    /// A process, and what is known of it.
    private struct Session {
        let check: StdioCheck
        var isFine = true
        private var process: CheckedProcess?
        private var hello = ProcessMessage.Hello(jobs: 1)
        private var lastRun: UInt64 = 0

        init(check: StdioCheck) { self.check = check }

        mutating func run() {
            attempt("hello") { session throws(CheckFailure) in try session.start() }
            attempt("one job") { session throws(CheckFailure) in
                try session.answer([session.runLine(session.check.payload)])
            }
            attempt("several jobs at once") { session throws(CheckFailure) in
                let count = max(8, session.hello.jobs * 2)
                return try session.answer((0..<count).map { _ in session.runLine(session.check.payload) })
            }
            attempt("a job in pieces") { session throws(CheckFailure) in
                let line = session.runLine(session.check.payload).line
                session.process?.send(Array(line.prefix(line.count / 2)))
                _ = try session.process?.nextIfAny(until: .now + .milliseconds(100))
                session.process?.send(Array(line.dropFirst(line.count / 2)))
                return try session.answers(to: [session.lastRun])
            }
            attempt("unknown messages and members") { session throws(CheckFailure) in
                session.process?.send(Array("{\"type\":\"x-later\",\"run\":1,\"list\":[1,{\"a\":null}]}\n".utf8))
                var line = session.runLine(session.check.payload).line
                line.replaceSubrange(0..<1, with: "{\"x_later\":{\"type\":\"drain\"},".utf8)
                session.process?.send(line)
                return try session.answers(to: [session.lastRun])
            }
            attempt("unusual payloads") { session throws(CheckFailure) in
                try session.answer(Self.unusual.map { session.runLine($0) })
            }
            attempt("a payload of 1 MB") { session throws(CheckFailure) in
                let text = String(repeating: "x", count: 1_000_000)
                return try session.answer([session.runLine("{\"text\":\"\(text)\"}")])
            }
            attempt("a run that is cancelled at once") { session throws(CheckFailure) in
                guard session.hello.cancels else { return .skipped("its hello has no \"cancel\"") }
                var lines = session.runLine(session.check.payload).line
                lines += WorkerMessage.cancel(session.lastRun)
                session.process?.send(lines)
                return try session.answers(to: [session.lastRun])
            }
            attempt("a cancellation that comes too late") { session throws(CheckFailure) in
                guard session.hello.cancels else { return .skipped("its hello has no \"cancel\"") }
                session.process?.send(WorkerMessage.cancel(session.lastRun))
                return try session.answer([session.runLine(session.check.payload)])
            }
            attempt("heartbeats") { session throws(CheckFailure) in try session.heartbeats() }
            attempt("a slow run that is cancelled") { session throws(CheckFailure) in try session.slowCancellation() }
            attempt("draining") { session throws(CheckFailure) in
                var lines = session.runLine(session.check.payload).line
                let run = session.lastRun
                lines += WorkerMessage.drain
                session.process?.send(lines)
                session.process?.closeInput()
                _ = try session.answers(to: [run])
                try session.process?.exits(until: .now + session.check.timeout)
                return .passed("it answered, and exited with status 0")
            }
            attempt("the end of its input") { session throws(CheckFailure) in
                _ = try session.start()
                session.process?.closeInput()
                try session.process?.exits(until: .now + session.check.timeout)
                return .passed("it exited with status 0")
            }
        }

        private enum Note {
            case passed(String)
            case skipped(String)
        }

        /// Makes one check. After a failure, the next one gets a new process.
        private mutating func attempt(
            _ name: String,
            _ body: (inout Session) throws(CheckFailure) -> Note
        ) {
            do {
                if name != "hello", process == nil || process?.end != nil {
                    // Without a hello there is nothing to check.
                    guard isFine || lastRun > 0 else { return }
                    if name != "the end of its input" { _ = try start() }
                }
                switch try body(&self) {
                case .passed(let note): check.report(Finding(check: name, verdict: .passed, note: note))
                case .skipped(let note): check.report(Finding(check: name, verdict: .skipped, note: note))
                }
            } catch {
                isFine = false
                process = nil
                check.report(Finding(check: name, verdict: .failed, note: error.message))
            }
        }

        private mutating func start() throws(CheckFailure) -> Note {
            let process = try CheckedProcess(check.program, maxLineBytes: StdioCheck.maxLineBytes, log: check.log)
            self.process = process
            process.send(
                WorkerMessage.hello(
                    jobs: check.jobs,
                    heartbeat: StdioCheck.heartbeat,
                    maxLine: StdioCheck.maxLineBytes
                )
            )
            guard case .hello(let hello) = try process.next(until: .now + check.startTimeout, "its hello") else {
                throw CheckFailure("its first line is not a hello")
            }
            self.hello = hello
            var abilities = ["runs \(hello.jobs) at once"]
            if hello.cancels { abilities.append("ends cancelled runs") }
            if hello.sendsHeartbeats { abilities.append("sends heartbeats") }
            return .passed((hello.library.map { "\($0): " } ?? "") + abilities.joined(separator: ", "))
        }

        private mutating func runLine(_ payload: String) -> (run: UInt64, line: [UInt8]) {
            lastRun += 1
            let job = Job(id: Int64(lastRun), kind: check.kind, payload: payload)
            return (lastRun, WorkerMessage.run(lastRun, job, deadline: "2100-01-01T00:00:00.000Z"))
        }

        private func answer(_ runs: [(run: UInt64, line: [UInt8])]) throws(CheckFailure) -> Note {
            process?.send(runs.flatMap(\.line))
            return try answers(to: runs.map(\.run))
        }

        /// Waits until each run is answered once, and then a moment for what should not come.
        private func answers(to runs: [UInt64]) throws(CheckFailure) -> Note {
            var open = Set(runs)
            var outcomes: [String: Int] = [:]
            let deadline = ContinuousClock.now + check.timeout
            while !open.isEmpty {
                guard let message = try process?.next(until: deadline, "the result of run \(open.min() ?? 0)") else {
                    throw CheckFailure("there is no process")
                }
                if case .result(let run, let outcome) = message {
                    guard open.remove(run) != nil else {
                        throw CheckFailure("it answered run \(run), which it does not have (any more)")
                    }
                    outcomes[outcome.outcomeClass.rawValue, default: 0] += 1
                } else {
                    try accept(message, open)
                }
            }
            if let message = try process?.nextIfAny(until: .now + .milliseconds(50)) { try accept(message, open) }
            let counts = outcomes.sorted { $0.key < $1.key }.map { $0.value == 1 ? $0.key : "\($0.value) \($0.key)" }
            return .passed(counts.joined(separator: ", "))
        }

        /// Accepts a message that is not an expected result.
        private func accept(_ message: ProcessMessage, _ open: Set<UInt64>) throws(CheckFailure) {
            switch message {
            case .hello: throw CheckFailure("it said hello twice")
            case .result(let run, _): throw CheckFailure("it answered run \(run), which it does not have (any more)")
            case .progress(let run, _, _), .checkpoint(let run, _):
                guard open.contains(run) else {
                    throw CheckFailure("it reported about run \(run), which it does not have (any more)")
                }
            case .heartbeat, .drain: break
            }
        }

        private mutating func heartbeats() throws(CheckFailure) -> Note {
            guard hello.sendsHeartbeats else { return .skipped("its hello has no \"heartbeat\"") }
            guard let slow = check.slowPayload else { return .skipped("give --slow-payload") }
            let run = runLine(slow)
            process?.send(run.line)
            let start = ContinuousClock.now
            var count = 0
            while true {
                // It is asked for one a second; a worker ends it after three.
                let message = try process?.next(until: .now + StdioCheck.heartbeat * 3, "a heartbeat")
                if case .result = message { break }
                count += 1
                if count >= 3 { break }
            }
            guard count > 0 else {
                return .skipped("the slow job took only \(Int((.now - start) / .milliseconds(1))) ms")
            }
            if count >= 3 { _ = try answers(to: [run.run]) }
            return .passed("at least one in three seconds")
        }

        private mutating func slowCancellation() throws(CheckFailure) -> Note {
            guard hello.cancels else { return .skipped("its hello has no \"cancel\"") }
            guard let slow = check.slowPayload else { return .skipped("give --slow-payload") }
            let run = runLine(slow)
            process?.send(run.line)
            // The handler is to have begun.
            _ = try process?.nextIfAny(until: .now + .milliseconds(500))
            process?.send(WorkerMessage.cancel(run.run))
            let start = ContinuousClock.now
            _ = try answers(to: [run.run])
            return .passed("it was answered after \(Int((.now - start) / .milliseconds(1))) ms")
        }

        private static let unusual = [
            "null", "true", "0", "-1.5e300", "\"\"", "[]", "{}", #""\u0000\n\t\"\\\u00e9\ud83d\ude00""#,
            "\"é\u{1F600}\"",
            String(repeating: "[", count: 100) + String(repeating: "]", count: 100),
            #"{"type":"drain","run":1,"payload":{"run":"x"}}"#, "12345678901234567890123456789",
        ]
    }
}
