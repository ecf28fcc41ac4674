import Breakwater

/// The lines that a worker writes to a process's standard input.
enum WorkerMessage {
    /// The version of the protocol.
    static let version = 1

    /// The first line.
    ///
    /// - Parameters:
    ///   - jobs: How many jobs the process should run at once.
    ///   - heartbeat: How often the process should write a line while it has a job.
    ///   - maxLine: The most bytes of a line that it may write.
    static func hello(jobs: Int, heartbeat: Duration, maxLine: Int) -> [UInt8] {
        Array(
            """
            {"type":"hello","protocol":\(version),"jobs":\(jobs),"heartbeat":\(heartbeat / .seconds(1)),\
            "max_line":\(maxLine)}

            """.utf8
        )
    }

    static func cancel(_ run: UInt64) -> [UInt8] { Array("{\"type\":\"cancel\",\"run\":\(run)}\n".utf8) }

    static let drain = Array("{\"type\":\"drain\"}\n".utf8)

    /// A job to run.
    ///
    /// - Parameter deadline: The text of the time at which the run is cancelled.
    static func run(_ run: UInt64, _ job: Job, deadline: String) -> [UInt8] {
        var payload = job.payload
        return payload.withUTF8 { payload in
            var line: [UInt8] = []
            line.reserveCapacity(320 + payload.count)
            line += #"{"type":"run","run":"#.utf8
            line.append(number: run)
            line += #","id":""#.utf8
            line.append(number: job.id)
            line += #"","kind":"#.utf8
            line.append(string: job.kind)
            line += #","queue":"#.utf8
            line.append(string: job.queue)
            line += #","attempt":"#.utf8
            line.append(number: job.attempt)
            line += #","max_attempts":"#.utf8
            line.append(number: job.maxAttempts)
            line += #","deadline":""#.utf8
            line += deadline.utf8
            line += #"","idempotency_key":"#.utf8
            line.append(string: job.idempotencyKey)
            if let traceparent = job.traceparent {
                line += #","traceparent":"#.utf8
                line.append(string: traceparent)
            }
            if let tracestate = job.tracestate {
                line += #","tracestate":"#.utf8
                line.append(string: tracestate)
            }
            if let checkpoint = job.checkpoint {
                line += #","checkpoint":"#.utf8
                // A line feed in valid JSON is white space between its parts.
                line += checkpoint.utf8.lazy.map { $0 == UInt8(ascii: "\n") ? 0x20 : $0 }
            }
            line += #","payload":"#.utf8
            let start = line.count
            line += payload
            // The database sends no line feeds in a payload.
            if payload.contains(UInt8(ascii: "\n")) {
                for index in start..<line.count where line[index] == UInt8(ascii: "\n") { line[index] = 0x20 }
            }
            line += "}\n".utf8
            return line
        }
    }
}

extension [UInt8] {
    /// Appends a number in decimal digits.
    fileprivate mutating func append(number: some BinaryInteger) { self += String(number).utf8 }

    /// Appends a text as a JSON string.
    fileprivate mutating func append(string: String) { self += JobResult.quoted(string).utf8 }
}
