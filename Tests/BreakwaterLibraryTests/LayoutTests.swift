import CBreakwaterHandler
import Testing

/// What libraries are built with must never change within a version.
@Suite("The header's version 1", .enabled(if: MemoryLayout<Int>.size == 8, "the offsets are those of 64 bits"))
struct LayoutTests {
    @Test("has each field of a job and of an outcome in its place")
    func data() {
        typealias Text = MemoryLayout<breakwater_text>
        #expect([Text.size, Text.offset(of: \.bytes), Text.offset(of: \.length)] == [16, 0, 8])
        typealias Job = MemoryLayout<breakwater_job>
        #expect(Job.size == 160)
        #expect(Job.offset(of: \.struct_size) == 0)
        #expect(Job.offset(of: \.run) == 8)
        #expect(Job.offset(of: \.id) == 16)
        #expect(Job.offset(of: \.attempt) == 24)
        #expect(Job.offset(of: \.max_attempts) == 32)
        #expect(Job.offset(of: \.deadline_ms) == 40)
        #expect(Job.offset(of: \.payload) == 48)
        #expect(Job.offset(of: \.kind) == 64)
        #expect(Job.offset(of: \.queue) == 80)
        #expect(Job.offset(of: \.idempotency_key) == 96)
        #expect(Job.offset(of: \.checkpoint) == 112)
        #expect(Job.offset(of: \.traceparent) == 128)
        #expect(Job.offset(of: \.tracestate) == 144)
        typealias Outcome = MemoryLayout<breakwater_outcome>
        #expect(Outcome.size == 64)
        #expect(Outcome.offset(of: \.struct_size) == 0)
        #expect(Outcome.offset(of: \.outcome) == 4)
        #expect(Outcome.offset(of: \.retry_after_ms) == 8)
        #expect(Outcome.offset(of: \.result) == 16)
        #expect(Outcome.offset(of: \.name) == 32)
        #expect(Outcome.offset(of: \.message) == 48)
    }

    @Test("has each function in its place")
    func functions() {
        typealias Host = MemoryLayout<breakwater_host>
        #expect(Host.size == 56)
        #expect([Host.offset(of: \.struct_size), Host.offset(of: \.abi)] == [0, 4])
        #expect(Host.offset(of: \.is_cancelled) == 8)
        #expect(Host.offset(of: \.wait) == 16)
        #expect(Host.offset(of: \.progress) == 24)
        #expect(Host.offset(of: \.checkpoint) == 32)
        #expect(Host.offset(of: \.log) == 40)
        #expect(Host.offset(of: \.set_outcome) == 48)
        typealias Opening = MemoryLayout<breakwater_opening>
        #expect(Opening.size == 48)
        #expect([Opening.offset(of: \.struct_size), Opening.offset(of: \.threads)] == [0, 4])
        #expect(Opening.offset(of: \.handle) == 8)
        #expect(Opening.offset(of: \.settings) == 16)
        #expect([Opening.offset(of: \.problem), Opening.offset(of: \.problem_size)] == [32, 40])
        typealias Handler = MemoryLayout<breakwater_handler>
        #expect(Handler.size == 40)
        #expect([Handler.offset(of: \.struct_size), Handler.offset(of: \.abi)] == [0, 4])
        #expect(Handler.offset(of: \.name) == 8)
        #expect(Handler.offset(of: \.open) == 16)
        #expect(Handler.offset(of: \.run) == 24)
        #expect(Handler.offset(of: \.close) == 32)
    }

    @Test("has these numbers")
    func numbers() {
        #expect(BREAKWATER_ABI == 1)
        #expect(
            [
                BREAKWATER_SUCCEEDED, BREAKWATER_FAILED, BREAKWATER_UNAVAILABLE, BREAKWATER_THROTTLED,
                BREAKWATER_DISCARDED, BREAKWATER_SNOOZED, BREAKWATER_UNABLE, BREAKWATER_RELEASED,
            ] == Array(1...8)
        )
        #expect(
            [
                BREAKWATER_TRACE, BREAKWATER_DEBUG, BREAKWATER_INFO, BREAKWATER_NOTICE, BREAKWATER_WARNING,
                BREAKWATER_ERROR,
            ] == Array(0...5)
        )
        #expect([BREAKWATER_OK, BREAKWATER_ENDED, BREAKWATER_INVALID, BREAKWATER_TOO_LARGE] == [0, -1, -2, -3])
    }
}
