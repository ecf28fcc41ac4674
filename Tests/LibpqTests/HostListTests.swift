import Testing

@testable import Libpq

@Suite("The servers of a conninfo")
struct HostListTests {
    private func list(_ keywords: [String: String], defaults: [String: String] = [:]) -> HostList {
        HostList(keywords, defaults: defaults)
    }

    @Test func `each address of a name is a server of its own, and keeps the name`() {
        let two = list(["host": "a,b,/socket,10.0.0.9", "port": "1,2,3,4"]).expanded { name in
            ["a": ["10.0.0.1", "10.0.0.2"], "10.0.0.9": ["10.0.0.9"]][name] ?? []
        }
        let keywords = two.applied(to: ["dbname": "d"])
        #expect(
            keywords == [
                "dbname": "d", "host": "a,a,b,/socket,10.0.0.9", "hostaddr": "10.0.0.1,10.0.0.2,,,",
                "port": "1,1,2,3,4",
            ]
        )
        #expect(two.count == 5)
    }

    @Test func `a name with one address, and what is an address already, stay as they are`() {
        let keywords = ["host": "a,b", "hostaddr": "10.0.0.1,10.0.0.2", "port": "5"]
        let same = list(keywords).expanded { _ in ["10.0.0.3", "10.0.0.4"] }
        #expect(same.applied(to: [:]) == ["host": "a,b", "hostaddr": "10.0.0.1,10.0.0.2", "port": "5,5"])
        #expect(list(["host": "a"]).expanded { _ in ["10.0.0.3"] }.applied(to: [:]) == ["host": "a"])
    }

    @Test func `the server that libpq is at is left out, and never the last`() {
        var servers = list(["host": "a", "port": "7"]).expanded { _ in ["10.0.0.1", "10.0.0.2"] }
        let isLeftOut = servers.remove(host: "a", address: "10.0.0.2", port: "7")
        #expect(isLeftOut)
        #expect(servers.applied(to: [:]) == ["host": "a", "hostaddr": "10.0.0.1", "port": "7"])
        let isLastLeftOut = servers.remove(host: "a", address: "10.0.0.1", port: "7")
        #expect(!isLastLeftOut)
    }

    @Test func `one that is given up is left out with its address and port`() {
        let keywords = ["host": "a,b,c", "hostaddr": "1.1.1.1,,3.3.3.3", "port": "1,2,3", "user": "u"]
        var servers = list(keywords)
        #expect(servers.count == 3)
        let isLeftOut = servers.remove(host: "b", address: "2.2.2.2", port: "2")
        #expect(isLeftOut)
        #expect(
            servers.applied(to: keywords)
                == ["host": "a,c", "hostaddr": "1.1.1.1,3.3.3.3", "port": "1,3", "user": "u"]
        )
    }

    @Test func `servers of one host differ by their ports, and one port serves all`() {
        var ports = list(["host": "a,a", "port": "1,2"])
        let isLeftOut = ports.remove(host: "a", address: "1.1.1.1", port: "2")
        #expect(isLeftOut)
        #expect(ports.applied(to: [:]) == ["host": "a", "port": "1"])
        var shared = list(["host": "a,b"], defaults: ["port": "5432"])
        let isFirstLeftOut = shared.remove(host: "a", address: "1.1.1.1", port: "5432")
        #expect(isFirstLeftOut)
        #expect(shared.applied(to: [:]) == ["host": "b", "port": "5432"])
    }

    @Test func `an unknown server stays`() {
        var servers = list(["host": "a,b"])
        let isLeftOut = servers.remove(host: "c", address: "", port: "5432")
        #expect(!isLeftOut)
    }

    @Test func `lists that do not match, and services, are left to libpq`() {
        for keywords in [["host": "a,b", "hostaddr": "10.0.0.1"], ["host": "a,b", "port": "1,2,3"], ["service": "s"]] {
            #expect(list(keywords, defaults: ["host": "z"]).applied(to: keywords) == keywords)
        }
        #expect(list([:], defaults: ["host": "z"]).applied(to: [:]) == ["host": "z"])
    }
}
