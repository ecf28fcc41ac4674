import Breakwater
import CBreakwaterHandler
import Glibc

/// A job in the form in which a library gets it: its texts in one piece of memory, each with a NUL at its end.
struct JobMemory {
    private var bytes: [UInt8] = []
    /// Where each text begins in the memory, and its length; nil for no text.
    private var places: [(start: Int, length: Int)?] = []
    private var job = breakwater_job()

    init(_ job: Job, run: UInt64, remaining: Duration) {
        var payload = job.payload
        payload.withUTF8 { payload in
            bytes.reserveCapacity(payload.count + 256)
            append(payload)
        }
        for text in [job.kind, job.queue, job.idempotencyKey] { append(text.utf8) }
        for text in [job.checkpoint, job.traceparent, job.tracestate] {
            if let text { append(text.utf8) } else { places.append(nil) }
        }
        self.job.struct_size = UInt32(MemoryLayout<breakwater_job>.size)
        self.job.run = run
        self.job.id = job.id
        self.job.attempt = Int64(job.attempt)
        self.job.max_attempts = Int64(job.maxAttempts)
        self.job.deadline_ms = Self.unixMilliseconds(after: remaining)
    }

    /// Gives the body the job, which is valid until the body returns.
    func withJob(_ body: (UnsafePointer<breakwater_job>) -> Void) {
        bytes.withUnsafeBufferPointer { bytes in
            func text(_ index: Int) -> breakwater_text {
                guard let place = places[index], let start = bytes.baseAddress else { return breakwater_text() }
                let pointer = UnsafeRawPointer(start + place.start).assumingMemoryBound(to: CChar.self)
                return breakwater_text(bytes: pointer, length: UInt64(place.length))
            }
            var job = job
            job.payload = text(0)
            job.kind = text(1)
            job.queue = text(2)
            job.idempotency_key = text(3)
            job.checkpoint = text(4)
            job.traceparent = text(5)
            job.tracestate = text(6)
            withUnsafePointer(to: job, body)
        }
    }

    private mutating func append(_ text: some Collection<UInt8>) {
        places.append((bytes.count, text.count))
        bytes += text
        bytes.append(0)
    }

    private static func unixMilliseconds(after remaining: Duration) -> Int64 {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        let (seconds, attoseconds) = remaining.components
        // Deadlines beyond some ten thousand years become one.
        return (Int64(now.tv_sec) + min(seconds, 1 << 40)) * 1000 + Int64(now.tv_nsec) / 1_000_000
            + attoseconds / 1_000_000_000_000_000
    }
}
