import Breakwater
import BreakwaterProcess
import BreakwaterTesting
import Libpq
import Synchronization
import Testing

@testable import BreakwaterStdio

@Suite("The thread of a pool") struct ProcessHostTests {
    private func run(_ host: ProcessHost) async -> ProcessPool.Ending {
        let job = Job(kind: "test")
        let context = JobContext(job: job, deadline: .now + .seconds(60), logger: RecordedLog().logger())
        let run = host.nextRun()
        return await withCheckedContinuation { continuation in
            let line = WorkerMessage.run(run, job, deadline: "")
            host.submit(run, line, ProcessHost.Caller(context: context, continuation: continuation))
        }
    }

    @Test("a process that is started after the thread could not be gets one hello")
    func threadFails() async throws {
        let script = """
            read hello; echo '{"type":"hello","protocol":1,"jobs":1}'
            read job; case $job in *hello*) exit 3;; esac
            echo '{"type":"result","run":2,"outcome":"succeeded"}'
            read rest
            """
        let program = try Program(
            command: ["sh", "-c", script],
            environment: [:],
            inherit: ["PATH"],
            workingDirectory: nil
        )
        let mayStart = Atomic(false)
        let host = ProcessHost(program, testSettings()) { name, body in
            mayStart.load(ordering: .relaxed) && DetachedThread.start(name, body)
        }
        guard case .outcome(.unable(let failure)) = await run(host) else {
            Issue.record("the job did not end as unable")
            return
        }
        #expect(failure.name == "worker.EAGAIN")
        mayStart.store(true, ordering: .relaxed)
        // The pause after the failed start.
        try await Task.sleep(for: .milliseconds(100))
        #expect(await run(host) == .outcome(.succeeded()))
        await host.stop()
    }
}
