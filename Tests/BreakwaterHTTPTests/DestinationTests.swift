import Breakwater
import Testing

@testable import BreakwaterHTTP

@Suite struct DestinationTests {
    @Test(arguments: [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.0.1", "169.254.169.254", "172.16.0.1",
        "172.31.255.255", "192.168.0.1", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fc00::1",
        "fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
        "64:ff9b::a00:1", "2002:0a00:0001::", "2001:db8::1", "::7f00:1", "2001::1",
        // These are the addresses at which clouds serve metadata.
        "168.63.129.16", "fd00:ec2::254", "100.100.100.200", "169.254.170.2", "fd20:ce::254", "::ffff:168.63.129.16",
        "64:ff9b::a83f:8110",
    ])
    func aNameMayNotResolveTo(address: String) throws {
        let policy = try DestinationPolicy(host: "hooks.example", allow: [])
        #expect(policy.refusal(of: try #require(IPAddress(address))) != nil)
    }

    @Test(arguments: [
        "1.1.1.1", "172.15.255.255", "172.32.0.1", "11.0.0.1", "100.63.255.255", "223.255.255.255",
        "168.63.129.15", "168.63.129.17", "2606:4700::1111", "64:ff9b::101:101", "2002:0101:0101::", "::ffff:1.1.1.1",
    ])
    func aNameMayResolveTo(address: String) throws {
        let policy = try DestinationPolicy(host: "hooks.example", allow: [])
        #expect(policy.refusal(of: try #require(IPAddress(address))) == nil)
    }

    @Test(arguments: [
        ("10.0.0.0/8", "10.255.0.1", true), ("10.0.0.0/8", "192.168.0.1", false), ("10.0.0.5", "10.0.0.5", true),
        ("10.0.0.5", "10.0.0.6", false), ("0.0.0.0/0", "127.0.0.1", true), ("0.0.0.0/0", "::1", false),
        ("::/0", "::1", true), ("fd00::/8", "fd12::1", true), ("fd00::/8", "fc12::1", false),
        ("::ffff:10.0.0.0/104", "10.1.1.1", true), ("hooks.example", "10.0.0.1", true), ("HOOKS.example", "::1", true),
        ("other.example", "10.0.0.1", false),
    ])
    func theAllowListAddsToIt(entry: String, address: String, isAllowed: Bool) throws {
        let policy = try DestinationPolicy(host: "hooks.example", allow: [entry])
        #expect((policy.refusal(of: try #require(IPAddress(address))) == nil) == isAllowed)
    }

    @Test(arguments: ["fd12:3456:789a:bcde:f012:3456:789a:bcde", "fe80::1", "169.254.169.254"])
    func aRefusalNamesTheAddress(address: String) throws {
        let policy = try DestinationPolicy(host: "hooks.example", allow: [])
        let read = try #require(IPAddress(address))
        #expect(policy.refusal(of: read)?.hasPrefix("\(address) is ") == true)
    }

    @Test func whatTheURLSaysIsMeant() throws {
        let address = try DestinationPolicy(host: "10.0.0.1", allow: [])
        #expect(address.refusal(of: try #require(IPAddress("10.0.0.1"))) == nil)
        #expect(address.refusal(of: try #require(IPAddress("10.0.0.2"))) != nil)
        let localhost = try DestinationPolicy(host: "localhost", allow: [])
        #expect(localhost.refusal(of: try #require(IPAddress("::1"))) == nil)
        #expect(localhost.refusal(of: try #require(IPAddress("10.0.0.2"))) != nil)
    }

    @Test(arguments: [
        "", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/x", "::/129", "a b", "http://a", "a:80", "bücher.example",
    ])
    func otherEntriesAreRefused(entry: String) {
        let error = #expect(throws: HTTPPluginError.self) { try DestinationPolicy(host: "a", allow: [entry]) }
        #expect(error?.code == .invalidAllowance)
    }

    @Test func aNameThatResolvesToAPrivateAddressIsRefused() async throws {
        try await withServer({ _ in .answer(200) }) { server in
            var plugin = try HTTPPlugin(url: "http://inside.example:\(server.port)/")
            plugin.resolve = ["inside.example:\(server.port):127.0.0.1"]
            let outcome = try await run(plugin)
            #expect(outcome.outcomeClass == .failed)
            #expect(outcome.failure?.name == "http.refusedAddress")
            #expect(outcome.failure?.message.contains("127.0.0.1 is loopback") == true)
            #expect(server.connections == 0)
        }
    }

    @Test func anAllowedNetworkIsConnectedTo() async throws {
        try await withServer({ _ in .answer(200) }) { server in
            var plugin = try HTTPPlugin(url: "http://listed.example:\(server.port)/", allow: ["127.0.0.0/8"])
            plugin.resolve = ["listed.example:\(server.port):127.0.0.1"]
            #expect(try await run(plugin) == .succeeded())
        }
    }

    @Test func anOpenConnectionIsNotLentToAHandlerThatMayNotHaveIt() async throws {
        try await withServer({ _ in .answer(200) }) { server in
            var trusting = try HTTPPlugin(url: "http://lent.example:\(server.port)/", allow: ["lent.example"])
            trusting.resolve = ["lent.example:\(server.port):127.0.0.1"]
            #expect(try await run(trusting) == .succeeded())
            var strict = try HTTPPlugin(url: "http://lent.example:\(server.port)/")
            // Another thread of the client has neither the open connection nor the name's address.
            strict.resolve = trusting.resolve
            #expect(try await run(strict).failure?.name == "http.refusedAddress")
            #expect(server.requests.count == 1)
            #expect(try await run(trusting) == .succeeded())
        }
    }

    @Test(arguments: ["2130706433", "0x7f000001", "0x7f.1", "127.1", "0177.0.0.1", "017700000001", "127.0.0.1"])
    func aNumberForAnAddressIsThatAddress(host: String) async throws {
        // The URL's host is the address that the number means.
        #expect(try HTTPEndpoint("http://\(host)/").host == "127.0.0.1")
    }

    @Test(arguments: [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
        "169.254.169.254",
        "127.0.0.1,127.0.0.2", "[::1],127.0.0.1,0.0.0.0",
    ])
    func aNameThatPointsInsideReachesNobody(addresses: String) async throws {
        try await withServer({ _ in .answer(200) }) { server in
            var plugin = try HTTPPlugin(url: "http://inside-\(UInt64.random(in: 0 ... .max)).example:\(server.port)/")
            plugin.resolve = ["\(plugin.fixedEndpoint?.host ?? ""):\(server.port):\(addresses)"]
            #expect(try await run(plugin).failure?.name == "http.refusedAddress")
            #expect(server.connections == 0)
        }
    }

    @Test("the system's own resolver is not trusted either", arguments: ["localhost.", "127.0.0.1.", "ip6-localhost."])
    func namesOfThisMachine(host: String) async throws {
        try await withServer({ _ in .answer(200) }) { server in
            let outcome = try await run(try HTTPPlugin(url: "http://\(host):\(server.port)/"))
            // Not every machine has all of these names.
            #expect(["http.refusedAddress", "http.dns"].contains(outcome.failure?.name))
            #expect(server.connections == 0)
        }
    }

    @Test("a redirect to an address that is allowed is refused nevertheless", arguments: [301, 302, 303, 307, 308])
    func redirects(status: Int) async throws {
        try await withServer({ _ in .answer(200) }) { target in
            let reply = TestServer.Reply.answer(status, headers: ["Location": target.url])
            try await withServer({ _ in reply }) { server in
                let outcome = try await run(try HTTPPlugin(url: server.url))
                #expect(outcome.outcomeClass == .failed)
                #expect(target.connections == 0)
            }
        }
    }
}
