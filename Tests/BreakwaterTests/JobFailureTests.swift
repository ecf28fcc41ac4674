import Foundation
import Testing

@testable import Breakwater

@Suite("A limit of the process that a run has reached")
struct JobFailureTests {
    @Test("an error number names the limit, with its value")
    func numbers() throws {
        var limit = rlimit()
        getrlimit(.init(RLIMIT_NOFILE.rawValue), &limit)
        let files = try #require(JobFailure(limit: EMFILE, while: "opening a pipe"))
        #expect(files.name == "worker.EMFILE")
        #expect(
            files.message
                == "opening a pipe failed: this worker may have \(limit.rlim_cur) files open (ulimit -n), and too few are left"
        )
        let processes = try #require(JobFailure(limit: EAGAIN, while: "starting it"))
        #expect(processes.name == "worker.EAGAIN")
        #expect(processes.message.contains("(ulimit -u)"))
        #expect(JobFailure(limit: ENOMEM, while: "")?.message.contains("(ulimit -v)") == true)
        let machine = try #require(JobFailure(limit: ENFILE, while: ""))
        let maximum = try String(contentsOfFile: "/proc/sys/fs/file-max", encoding: .utf8).split(separator: "\n")[0]
        #expect(machine.message.contains("may have \(maximum) files open (fs.file-max)"))
        #expect(JobFailure(limit: EADDRNOTAVAIL, while: "")?.message.contains("ip_local_port_range") == true)
        #expect(JobFailure(limit: ENOBUFS, while: "")?.name == "worker.ENOBUFS")
        for number in [0, EINVAL, ECONNREFUSED, ENOENT, EACCES, ETIMEDOUT] {
            #expect(JobFailure(limit: number, while: "") == nil)
        }
    }

    @Test("asking whether descriptors are free leaves none open")
    func descriptors() {
        #expect(ProcessLimits.errorOpening(descriptors: 4) == nil)
        #expect(ProcessLimits.errorOpening(descriptors: ProcessLimits.openFiles - 2) == EMFILE)
        #expect(DescriptorReserve.reserve(ProcessLimits.openFiles) == EMFILE)
        #expect(DescriptorReserve.reserve(4) == nil)
        DescriptorReserve.giveBack(4)
        let (descriptor, error) = DescriptorReserve.open { open("/dev/null", O_RDONLY | O_CLOEXEC) }
        #expect(descriptor >= 0 && error == 0)
        close(descriptor)
        #expect(DescriptorReserve.open { open("/no/such/file", O_RDONLY) }.error == ENOENT)
    }

    @Test("an error that was thrown counts as a limit only beyond doubt")
    func errors() {
        #expect(JobFailure(limitIn: POSIXError(.EMFILE))?.name == "worker.EMFILE")
        #expect(JobFailure(limitIn: POSIXError(.ENFILE))?.name == "worker.ENFILE")
        #expect(JobFailure(limitIn: POSIXError(.ENOMEM))?.name == "worker.ENOMEM")
        let wrapped = CocoaError(.fileReadUnknown, userInfo: [NSUnderlyingErrorKey: POSIXError(.EMFILE)])
        #expect(JobFailure(limitIn: wrapped)?.name == "worker.EMFILE")
        // EAGAIN may mean a socket without data, and the dependency may cause the other errors.
        for code in [POSIXErrorCode.EAGAIN, .ECONNREFUSED, .ENOENT, .EADDRNOTAVAIL] {
            #expect(JobFailure(limitIn: POSIXError(code)) == nil)
        }
        #expect(JobFailure(limitIn: CocoaError(.fileNoSuchFile)) == nil)
        #expect(JobFailure(limitIn: CancellationError()) == nil)
    }
}
