import Testing

@testable import BreakwaterHTTP

@Suite struct ValidationTests {
    @Test(arguments: [
        "", "hooks", "/path", "http://", "ftp://a/", "file:///etc/passwd", "gopher://a/", "http:///path",
        "http://a b/", "http://a/\n", "http://a:99999/", "http://[::1/", "javascript:alert(1)",
    ])
    func otherURLsAreRefused(url: String) {
        #expect(code { try HTTPPlugin(url: url) } == .invalidURL)
    }

    @Test(arguments: [
        "http://a", "https://a.example:8443/x?y=z%23w", "http://xn--bcher-kva.example/", "HTTP://A/",
        "http://[::1]:80/", "http://localhost:1/",
    ])
    func theseAreAccepted(url: String) {
        #expect(code { try HTTPPlugin(url: url) } == nil)
    }

    @Test(
        "a URL with a fragment, port 0 or a host outside ASCII is refused, and the message says which",
        arguments: [
            ("http://a/x#token", "fragment"), ("http://a/#", "fragment"), ("http://a:0/", "port is 0"),
            ("https://a:000/", "port is 0"), ("http://bücher.example/", "outside ASCII"),
            ("http://b%C3%BCcher.example/", "outside ASCII"), ("http://1。1。1。1/", "outside ASCII"),
        ]
    )
    func wrongPartOfURL(url: String, problem: String) {
        let error = #expect(throws: HTTPPluginError.self) { try HTTPPlugin(url: url) }
        #expect(error?.code == .invalidURL)
        #expect(error?.message.contains(problem) == true)
        #expect(error?.message.contains("token") == false)
    }

    @Test(
        "a cloud's metadata service is refused in the URL unless it is allowed",
        arguments: [
            "169.254.169.254", "168.63.129.16", "100.100.100.200", "[fd00:ec2::254]", "[::ffff:169.254.169.254]",
            "2852039166", "metadata.google.internal", "METADATA.google.internal.",
        ]
    )
    func metadataServices(host: String) throws {
        let error = #expect(throws: HTTPPluginError.self) { try HTTPPlugin(url: "http://\(host)/") }
        #expect(error?.code == .refusedHost)
        let own = try HTTPEndpoint("http://\(host)/").host
        #expect(code { try HTTPPlugin(url: "http://\(host)/", allow: [own]) } == nil)
    }

    @Test(arguments: ["http://user:hidden@a/", "http://user@a/", "https://:hidden@a/"])
    func credentialsAreRefusedAndNotShown(url: String) {
        let error = #expect(throws: HTTPPluginError.self) { try HTTPPlugin(url: url) }
        #expect(error?.code == .credentialsInURL)
        #expect(error?.message.contains("hidden") == false)
    }

    @Test(arguments: [
        ["": "a"], ["a b": "c"], ["a:": "c"], ["é": "c"], ["a": "b\r\nc: d"], ["a": "\0"], ["Content-Length": "1"],
        ["Host": "a"], ["Breakwater-Job-Id": "1"], ["webhook-id": "1"], ["Transfer-Encoding": "x"],
        ["A": "1", "a": "2"],
    ])
    func otherHeadersAreRefused(headers: [String: String]) {
        #expect(code { try HTTPPlugin(url: "http://a", headers: headers) } == .invalidHeader)
    }

    @Test(arguments: ["", "hidden", "whsec_", "whsec_hidden!", "whsec_AAAA", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
    func otherSecretsAreRefusedAndNotShown(secret: String) {
        let error = #expect(throws: HTTPPluginError.self) { try HTTPPlugin(url: "http://a", secret: secret) }
        #expect(error?.code == .invalidSecret)
        #expect(error?.message.contains("hidden") == false)
    }

    @Test func otherValuesAreChecked() {
        #expect(code { try HTTPPlugin(url: "http://a", maxResponseBytes: 0) } == .invalidLimit)
        #expect(code { try HTTPPlugin(url: "http://a", allow: ["10.0.0.0/99"]) } == .invalidAllowance)
        #expect(code { try HTTPPlugin(url: "http://a", caFile: "/nowhere.pem") } == .invalidCAFile)
    }

    private func code(_ make: () throws -> HTTPPlugin) -> HTTPPluginError.Code? {
        do {
            _ = try make()
            return nil
        } catch {
            return (error as? HTTPPluginError)?.code
        }
    }
}
