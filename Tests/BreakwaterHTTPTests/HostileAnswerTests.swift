import Breakwater
import BreakwaterTesting
import Testing

@testable import BreakwaterHTTP

@Suite("Of a hostile server's answer") struct HostileAnswerTests {
    @Test("the body becomes a result or a message that can be stored", arguments: [200, 400, 503])
    func bodies(status: Int) async throws {
        for sample in HostileCorpus.outputs {
            let head = Array("HTTP/1.1 \(status) X\r\nContent-Length: \(sample.value.count)\r\n\r\n".utf8)
            let outcome = try await outcome(of: .bytes(head + sample.value))
            if case .succeeded(let result) = outcome {
                #expect(status == 200, "\(sample)")
                if let result { #expect(JobResult.isStorable(result), "\(sample)") }
            } else {
                let failure = try #require(outcome.failure, "\(sample)")
                #expect(failure.name == "http.\(status)", "\(sample)")
                #expect(failure.message.utf8.count < 2048, "\(sample)")
                #expect(!failure.message.utf8.contains(0), "\(sample)")
            }
        }
    }

    @Test("headers change nothing, or fail the job", arguments: [200, 429, 503])
    func headers(status: Int) async throws {
        for sample in HostileCorpus.outputs where sample.value.count < 100_000 {
            for name in ["Retry-After", "Date", "Set-Cookie", "Content-Encoding", "Location"] {
                let head = Array("HTTP/1.1 \(status) X\r\nContent-Length: 0\r\n\(name): ".utf8)
                let outcome = try await outcome(of: .bytes(head + sample.value.prefix(20_000) + Array("\r\n\r\n".utf8)))
                switch outcome {
                case .succeeded: #expect(status == 200, "\(name): \(sample)")
                case .throttled(_, let wait): #expect((.zero...RetryAfter.longest).contains(wait), "\(name): \(sample)")
                case .unavailable(_, let wait):
                    #expect((.zero...RetryAfter.longest).contains(wait ?? .zero), "\(name): \(sample)")
                default: #expect(outcome.failure?.message.isEmpty == false, "\(name): \(sample)")
                }
            }
        }
    }

    @Test(
        "an answer that is hardly HTTP fails the job before its deadline",
        arguments: [
            "", "\r\n\r\n", "HTTP/1.1\r\n\r\n", "HTTP/1.1 99999 X\r\n\r\n", "HTTP/1.1 -1 X\r\n\r\n",
            "HTTP/9.9 200 X\r\n\r\n",
            "ICY 200 OK\r\n\r\n", "SSH-2.0-OpenSSH\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx",
            "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nx", "HTTP/1.1 200 OK\r\n: empty\r\n\0\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            String(repeating: "HTTP/1.1 100 Continue\r\n\r\n", count: 10_000),
            "HTTP/1.1 200 OK\r\n" + String(repeating: "A: b\r\n", count: 100_000),
            "HTTP/1.1 200 OK\r\nA: " + String(repeating: "b", count: 1 << 20),
        ]
    )
    func notHTTP(answer: String) async throws {
        let start = ContinuousClock.now
        let outcome = try await outcome(of: .raw(answer))
        #expect(.now - start < .seconds(280), "it took the whole deadline")
        if case .succeeded = outcome { return }
        #expect(outcome.failure?.message.isEmpty == false)
    }
}
