import BreakwaterTesting
import Foundation
import Glibc

#if canImport(FoundationNetworking)
    import FoundationNetworking
#endif

/// A Prometheus server that runs for a test.
struct Prometheus {
    var port: Int

    /// Returns the text of one of its pages.
    func get(_ path: String) async throws -> String {
        try await fetch("http://127.0.0.1:\(port)\(path)").text
    }

    /// Returns the only value that a query gives, or nil if it gives none.
    func value(_ query: String) async throws -> Double? {
        let encoded = query.addingPercentEncoding(withAllowedCharacters: .alphanumerics) ?? ""
        let answer = try await get("/api/v1/query?query=\(encoded)")
        let object = try JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any]
        let results = (object?["data"] as? [String: Any])?["result"] as? [[String: Any]] ?? []
        guard results.count == 1, let pair = results[0]["value"] as? [Any] else { return nil }
        return (pair.last as? String).flatMap(Double.init)
    }
}

/// Runs a Prometheus that scrapes a port of this machine every second.
func withPrometheus<Result>(scraping port: Int, _ body: (Prometheus) async throws -> Result) async throws -> Result {
    try await withTemporaryDirectory { directory in
        let configuration = """
            global: { scrape_interval: 1s, scrape_timeout: 1s }
            scrape_configs:
              - job_name: breakwater
                static_configs: [{ targets: ["127.0.0.1:\(port)"] }]
            """
        try configuration.write(to: directory.appending(path: "prometheus.yml"), atomically: false, encoding: .utf8)
        // Another process may take the port after it was found free and before Prometheus takes it.
        for _ in 1...5 {
            let prometheus = Prometheus(port: try freePort())
            let process = try Program.Started(
                .prometheus,
                [
                    "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                    "--web.listen-address=127.0.0.1:\(prometheus.port)",
                ],
                files: directory
            )
            var isReady = false
            try await waitUntil("Prometheus is ready, or has ended", deadline: .seconds(120)) {
                isReady = (try? await fetch("http://127.0.0.1:\(prometheus.port)/-/ready").status) == 200
                return isReady || !process.isRunning
            }
            guard isReady, process.isRunning else { continue }
            do {
                let result = try await body(prometheus)
                process.stop()
                _ = await process.end()
                return result
            } catch {
                process.stop()
                _ = await process.end()
                throw error
            }
        }
        throw PrometheusError()
    }
}

struct PrometheusError: Error {}

/// A port of 127.0.0.1 on which no server listens.
func freePort() throws -> Int {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    defer { close(descriptor) }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
            bind(descriptor, pointer, length) == 0 && getsockname(descriptor, pointer, &length) == 0
        }
    }
    guard isBound else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EADDRINUSE) }
    return Int(UInt16(bigEndian: address.sin_port))
}

/// Returns the answer of a server on this machine.
func fetch(_ url: String) async throws -> (status: Int, text: String) {
    guard let url = URL(string: url) else { throw URLError(.badURL) }
    let (data, response) = try await URLSession.shared.data(from: url)
    return ((response as? HTTPURLResponse)?.statusCode ?? 0, String(decoding: data, as: UTF8.self))
}
