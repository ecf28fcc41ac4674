import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterDashboard

@Suite("Who gets in")
struct AccessTests {
    @Test("a password matches its hash and no other, and the hash reads back")
    func passwords() throws {
        let hash = PasswordHash(password: "Tr0ub4dor ünd Söhne")
        let read = try #require(PasswordHash(hash.text))
        #expect(read.matches("Tr0ub4dor ünd Söhne"))
        for wrong in ["", "tr0ub4dor ünd söhne", "Tr0ub4dor ünd Söhne ", String(repeating: "x", count: 5000)] {
            #expect(!read.matches(wrong))
        }
        #expect(PasswordHash(password: "a").text != PasswordHash(password: "a").text, "each has a salt of its own")
        #expect(!"\(hash)".contains("scrypt"), "it is not shown")
        // Computed elsewhere: Python's hashlib.scrypt(b"password", salt=b"0123456789abcdef", n=2**14, r=8, p=1, dklen=32).
        let foreign = "$scrypt$ln=14,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg==$ApdFWK8NumyY29Er9pEt++7OZiECvcqPQXeIayRc7Ck="
        #expect(try #require(PasswordHash(foreign)).matches("password"))
    }

    @Test(
        "a hash that is none, or would take too much memory, is refused",
        arguments: [
            "", "secret", "$scrypt$", "$scrypt$ln=15,r=8,p=1$AAAA$AAAA", "$2b$12$abcdefghijklmnopqrstuv",
            "$scrypt$ln=20,r=32,p=1$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZg==",
            "$scrypt$ln=99,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZg==",
        ]
    )
    func badHashes(text: String) { #expect(PasswordHash(text) == nil) }

    @Test("guessing passwords gets slower, for a name and for an address, and a right one starts over")
    func throttle() {
        var throttle = LoginThrottle()
        let start = ContinuousClock.now
        for _ in 0..<5 {
            #expect(throttle.wait(user: "ann", peer: "1.2.3.4", now: start) == nil)
            throttle.failed(user: "ann", peer: "1.2.3.4", now: start)
        }
        #expect(throttle.wait(user: "ann", peer: "1.2.3.4", now: start) == .seconds(1))
        throttle.failed(user: "ann", peer: "1.2.3.4", now: start)
        #expect(throttle.wait(user: "ann", peer: "1.2.3.4", now: start) == .seconds(2))
        #expect(throttle.wait(user: "ann", peer: "1.2.3.4", now: start + .seconds(2)) == nil)
        #expect(throttle.wait(user: "ann", peer: "4.3.2.1", now: start) == nil, "others are not locked out")
        throttle.succeeded(user: "ann", peer: "1.2.3.4")
        #expect(throttle.wait(user: "ann", peer: "1.2.3.4", now: start) == nil)
        for name in 0..<30 { throttle.failed(user: "user\(name)", peer: "1.2.3.4", now: start) }
        #expect(throttle.wait(user: "another", peer: "1.2.3.4", now: start) != nil, "names in turn do not help")
        for _ in 0..<50 { throttle.failed(user: "x", peer: "9.9.9.9", now: start) }
        #expect(throttle.wait(user: "x", peer: "9.9.9.9", now: start) == .seconds(300), "the wait is bounded")
    }

    @Test("a session ends with its time, when nobody does anything, and when it is ended")
    func sessions() {
        var sessions = SessionStore(lifetime: .seconds(100), idleTime: .seconds(10))
        let start = ContinuousClock.now
        let token = sessions.begin(user: "ann", now: start)
        #expect(sessions.find(token: token, isRefresh: false, now: start + .seconds(9)) != nil)
        #expect(sessions.find(token: token, isRefresh: true, now: start + .seconds(18)) != nil)
        #expect(
            sessions.find(token: token, isRefresh: true, now: start + .seconds(20)) == nil,
            "refreshing is not doing"
        )
        let other = sessions.begin(user: "ann", now: start)
        for second in stride(from: 5.0, to: 100, by: 5) {
            #expect(sessions.find(token: other, isRefresh: false, now: start + .seconds(second)) != nil)
        }
        #expect(sessions.find(token: other, isRefresh: false, now: start + .seconds(100)) == nil)
        let third = sessions.begin(user: "ann", now: start)
        sessions.end(id: sessions.find(token: third, isRefresh: false, now: start)?.id ?? "")
        #expect(sessions.find(token: third, isRefresh: false, now: start) == nil)
        #expect(sessions.find(token: "guess", isRefresh: false, now: start) == nil)
    }

    @Test("settings that would let anybody in, or cannot work, are refused")
    func configuration() {
        let database = TestSite.configuration(.init("")).database
        #expect(throws: DashboardError.self) { try DashboardConfiguration(database: database).validate() }
        var proxied = DashboardConfiguration(database: database, proxy: .init(header: "X-User", peers: ["127.0.0.1"]))
        #expect(throws: Never.self) { try proxied.validate() }
        for (header, peers) in [
            ("X User", ["127.0.0.1"]), ("X-User", []), ("X-User", ["everybody"]), ("Cookie", ["::1"]),
        ] {
            proxied.proxy = .init(header: header, peers: peers)
            #expect(throws: DashboardError.self) { try proxied.validate() }
        }
        #expect(PeerAddress("::ffff:127.0.0.1") == PeerAddress("127.0.0.1"))
    }

    @Test(
        "a wrong password is refused, and after some of them even the right one waits",
        .enabled(if: TestDatabase.isAvailable)
    )
    func wrongPasswords() async throws {
        try await withSite { test in
            var visitor = Visitor(site: test.site)
            _ = await visitor.get("/login")
            for _ in 0..<5 {
                let answer = await visitor.post(
                    "/login",
                    ["user": "ann", "password": "wrong"],
                    token: try visitor.loginToken()
                )
                #expect(answer.status == 403 && visitor.cookies["breakwater"] == nil)
            }
            let answer = await visitor.post(
                "/login",
                ["user": "ann", "password": TestSite.password],
                token: try visitor.loginToken()
            )
            #expect(answer.status == 429 && answer.header("retry-after") != nil && visitor.cookies["breakwater"] == nil)
        }
    }

    @Test("the session's cookie is out of reach of scripts and other sites", .enabled(if: TestDatabase.isAvailable))
    func cookies() async throws {
        try await withSite { test in
            var visitor = Visitor(site: test.site)
            _ = await visitor.get("/login")
            let answer = await visitor.post(
                "/login",
                ["user": "bob", "password": TestSite.password, "to": "//evil.test"],
                token: try visitor.loginToken()
            )
            let cookie = try #require(answer.headers.first { $0.value.hasPrefix("breakwater=") }?.value)
            #expect(cookie.contains("; HttpOnly") && cookie.contains("; SameSite=Lax") && cookie.contains("; Path=/"))
            #expect(answer.header("location") == "/", "a login leads nowhere else")
            var secured = TestSite.configuration(test.database.options)
            secured.securesCookies = true
            let gate = Gatekeeper(secured)
            #expect(
                gate.cookieName == "__Host-breakwater" && gate.cookie("a", "b", lifetime: nil).hasSuffix("; Secure")
            )
        }
    }

    @Test("a login form from elsewhere is refused", .enabled(if: TestDatabase.isAvailable))
    func loginFromElsewhere() async throws {
        try await withSite { test in
            var visitor = Visitor(site: test.site)
            _ = await visitor.get("/login")
            let form = ["user": "ann", "password": TestSite.password]
            let token = try visitor.loginToken()
            #expect(await visitor.post("/login", form, token: "guess").status == 403)
            visitor.headers["origin"] = ["https://evil.test"]
            #expect(await visitor.post("/login", form, token: token).status == 403)
            visitor.headers["origin"] = ["https://dashboard.test"]
            #expect(await visitor.post("/login", form, token: token).status == 303)
        }
    }

    @Test("a proxy's header is believed from its address alone, and once", .enabled(if: TestDatabase.isAvailable))
    func proxy() async throws {
        try await withSite { configuration in
            configuration.users = []
            configuration.proxy = .init(header: "X-Forwarded-User", peers: ["10.0.0.1"], operators: ["ann"])
        } _: { test in
            var visitor = Visitor(site: test.site)
            visitor.headers["x-forwarded-user"] = ["ann"]
            #expect(await visitor.get("/").status == 403, "from anybody else it counts for nothing")
            visitor.peer = "10.0.0.1"
            #expect(await visitor.get("/").text.contains("operator"))
            visitor.headers["x-forwarded-user"] = ["carl"]
            #expect(await visitor.get("/").text.contains("read-only"))
            #expect(await visitor.post("/queues/pause", ["scope": "queue", "name": "q", "reason": "r"]).status == 403)
            visitor.headers["x-forwarded-user"] = ["carl", "ann"]
            #expect(await visitor.get("/").status == 403, "nobody knows who is meant")
        }
    }
}
