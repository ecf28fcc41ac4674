import BreakwaterEndpoints
import BreakwaterTesting
import Foundation
import Libpq
import Testing

@testable import BreakwaterDashboard

@Suite("Access to the dashboard")
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
        #expect(!PasswordHash(like: hash).matches("Tr0ub4dor ünd Söhne"), "what nobody's password is compared with")
        // Python's hashlib.scrypt(b"password", salt=b"0123456789abcdef", n=2**14, r=8, p=1, dklen=32) computed this
        // hash.
        let foreign = "$scrypt$ln=14,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg==$ApdFWK8NumyY29Er9pEt++7OZiECvcqPQXeIayRc7Ck="
        #expect(try #require(PasswordHash(foreign)).matches("password"))
    }

    @Test(
        "a text that is not a hash, or a hash that would take too much memory, is refused",
        arguments: [
            "", "secret", "$scrypt$", "$scrypt$ln=15,r=8,p=1$AAAA$AAAA", "$2b$12$abcdefghijklmnopqrstuv",
            "$scrypt$ln=20,r=32,p=1$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZg==",
            "$scrypt$ln=99,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg==$MDEyMzQ1Njc4OWFiY2RlZg==",
        ]
    )
    func badHashes(text: String) { #expect(PasswordHash(text) == nil) }

    @Test("passwords are hashed with the work that OWASP asks for today, and hashes with less are refused")
    func costs() throws {
        let hash = PasswordHash(password: "a")
        #expect(hash.text.hasPrefix("$scrypt$ln=17,r=8,p=1$") && hash.isStrong)
        let rest = "$MDEyMzQ1Njc4OWFiY2RlZg==$ApdFWK8NumyY29Er9pEt++7OZiECvcqPQXeIayRc7Ck="
        for (costs, isStrong) in [
            ("ln=17,r=8,p=1", true), ("ln=18,r=8,p=1", true), ("ln=16,r=8,p=2", true), ("ln=15,r=8,p=3", true),
            ("ln=14,r=8,p=5", true), ("ln=13,r=8,p=10", true), ("ln=16,r=8,p=1", false), ("ln=15,r=8,p=1", false),
            ("ln=13,r=8,p=9", false), ("ln=12,r=8,p=16", false), ("ln=17,r=1,p=1", false),
        ] {
            #expect(try #require(PasswordHash("$scrypt$\(costs)\(rest)")).isStrong == isStrong, "\(costs)")
        }
        let old = DashboardConfiguration.User(
            name: "ann",
            password: try #require(PasswordHash("$scrypt$ln=15,r=8,p=1\(rest)"))
        )
        let database = TestSite.configuration(.init("")).database
        let error = #expect(throws: DashboardError.self) {
            try DashboardConfiguration(database: database, users: [old]).validate()
        }
        #expect(error?.message.contains("'ann'") == true)
        #expect(error?.message.contains("hash it again with `worker dashboard hash-password`") == true)
    }

    @Test("guessing passwords gets slower, for a name and for an address, and a right one starts over")
    func throttle() {
        var throttle = LoginThrottle()
        let start = ContinuousClock.now
        let (here, there, elsewhere) = (ClientAddress("1.2.3.4"), ClientAddress("4.3.2.1"), ClientAddress("9.9.9.9"))
        for _ in 0..<5 { #expect(throttle.guess("ann", here, start) == nil) }
        #expect(throttle.guess("ann", here, start) == .seconds(1))
        #expect(throttle.guess("ann", here, start + .seconds(1)) == nil)
        #expect(throttle.guess("ann", here, start + .seconds(1)) == .seconds(2))
        #expect(throttle.admit(user: "ann", client: there, now: start) == nil, "others are not locked out")
        throttle.succeeded(user: "ann", client: there)
        #expect(throttle.admit(user: "ann", client: here, now: start + .seconds(3)) == nil)
        throttle.succeeded(user: "ann", client: here)
        for _ in 0..<5 { #expect(throttle.guess("ann", here, start + .seconds(3)) == nil, "a right one starts over") }
        for name in 0..<30 { _ = throttle.guess("user\(name)", there, start) }
        #expect(throttle.guess("another", there, start) != nil, "names in turn do not help")
        #expect(throttle.guess("ann", there, start) == nil, "ann has logged in from there before")
        var now = start
        for _ in 0..<50 {
            guard let wait = throttle.guess("x", elsewhere, now) else { continue }
            #expect(wait <= .seconds(300), "the wait is bounded")
            now += wait
        }
        #expect(throttle.guess("x", elsewhere, now) == nil && throttle.guess("x", elsewhere, now) == .seconds(300))
        #expect(throttle.guess("x", elsewhere, now + .seconds(601)) == nil, "it is forgotten")
        #expect(throttle.guess("x", elsewhere, now + .seconds(601)) == nil)
    }

    @Test("guessing one name from many addresses gets slower too, but not for a user at a known address")
    func distributedGuesses() throws {
        var throttle = LoginThrottle()
        let now = ContinuousClock.now
        let home = ClientAddress("192.0.2.1")
        #expect(throttle.admit(user: "ann", client: home, now: now) == nil)
        throttle.succeeded(user: "ann", client: home)
        for number in 0..<100 { #expect(throttle.guess("ann", ClientAddress("10.0.0.\(number)"), now) == nil) }
        #expect(throttle.guess("ann", ClientAddress("10.0.1.1"), now) != nil)
        #expect(throttle.admit(user: "ann", client: home, now: now) == nil)
        #expect(throttle.guess("bob", ClientAddress("10.0.1.1"), now) == nil)
    }

    @Test("a guess that is being checked counts as well, and one that was not checked does not")
    func pendingGuesses() throws {
        var throttle = LoginThrottle()
        let (now, client) = (ContinuousClock.now, ClientAddress("1.2.3.4"))
        for _ in 0..<5 { #expect(throttle.admit(user: "ann", client: client, now: now) == nil) }
        #expect(throttle.admit(user: "ann", client: client, now: now) != nil)
        throttle.withdraw(user: "ann", client: client)
        #expect(throttle.admit(user: "ann", client: client, now: now) == nil)
    }

    @Test("however many names and addresses there are, the throttle remembers who is guessing now")
    func manyRecords() throws {
        var throttle = LoginThrottle()
        let now = ContinuousClock.now
        let guesser = ClientAddress("1.2.3.4")
        for number in 0..<LoginThrottle.mostRecords {
            let client = ClientAddress("10.\(number >> 16).\(number >> 8 & 255).\(number & 255)")
            _ = throttle.guess("user\(number)", client, now)
            if number.isMultiple(of: 1000) { _ = throttle.guess("ann", guesser, now + .milliseconds(number)) }
        }
        #expect(throttle.guess("ann", guesser, now + .seconds(10)) != nil)
    }

    @Test("of many guesses at once, few are checked, and a user at another address gets in meanwhile")
    func parallelGuesses() async throws {
        let gate = Gatekeeper(TestSite.configuration(.init("")))
        let guesser = ClientAddress("203.0.113.9")
        let logins = await withTaskGroup(of: Gatekeeper.Login.self) { group in
            for _ in 0..<300 {
                group.addTask { await gate.logIn(user: "ann", password: "wrong", address: guesser) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        // Five guesses are free, and a sixth after a second. A slow machine may take longer than that.
        #expect(logins.count { $0 == .refused } <= 10)
        let elsewhere = await gate.logIn(user: "ann", password: TestSite.password, address: ClientAddress("192.0.2.7"))
        guard case .welcome = elsewhere else {
            Issue.record("\(elsewhere)")
            return
        }
    }

    @Test("passwords are checked one at a time, and few wait")
    func passwordQueue() async throws {
        let (checker, hash) = (PasswordChecker(), PasswordHash(password: "a", cost: 15))
        let verdicts = await withTaskGroup(of: (Int, PasswordChecker.Verdict).self) { group in
            for number in 0..<100 {
                let client = ClientAddress("10.0.0.\(number < 50 ? 0 : number)")
                group.addTask { (number, await checker.check("a", hash, for: client)) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(verdicts.contains { $0.1 == .busy } && !verdicts.contains { $0.1 == .wrong })
        // While the first ones wait, the fifth of the same address is refused, and so is the thirteenth of all.
        #expect(verdicts.count { $0.1 == .right } < 50)
        #expect(await checker.check("b", hash, for: nil) == .wrong, "and then there is room again")
    }

    @Test("one user's logins end the oldest session of the same user, and no session of another user")
    func sessionsOfUser() throws {
        var sessions = SessionStore(lifetime: .seconds(10_000), idleTime: .seconds(10_000))
        let start = ContinuousClock.now
        let ann = sessions.begin(user: "ann", now: start)
        let bobs = (1...1001).map { sessions.begin(user: "bob", now: start + .seconds($0)) }
        let now = start + .seconds(1001)
        #expect(sessions.find(token: ann, isRefresh: false, now: now) != nil)
        #expect(sessions.sessions.count == 1 + SessionStore.mostOfUser)
        #expect(sessions.find(token: bobs[0], isRefresh: false, now: now) == nil)
        for token in bobs.suffix(SessionStore.mostOfUser) {
            #expect(sessions.find(token: token, isRefresh: false, now: now)?.session.user == "bob")
        }
    }

    @Test("one session's notices do not take away another's")
    func notices() throws {
        let gate = Gatekeeper(TestSite.configuration(.init("")))
        let ann = Viewer(name: "ann", role: .operator, session: "1", canLogOut: true)
        let bob = Viewer(name: "bob", role: .readOnly, session: "2", canLogOut: true)
        gate.leave(.init(text: "done"), for: ann)
        for number in 0..<2000 { gate.leave(.init(text: "\(number)"), for: bob) }
        #expect(gate.consumeNotice(for: ann)?.text == "done")
        #expect(gate.consumeNotice(for: bob)?.text == "1999" && gate.consumeNotice(for: bob) == nil)
    }

    @Test("a session ends when its time is over, when it has been idle, and when it is ended")
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

    @Test("settings that would let every visitor in, or that cannot work, are refused")
    func configuration() {
        let database = TestSite.configuration(.init("")).database
        #expect(throws: DashboardError.self) { try DashboardConfiguration(database: database).validate() }
        var proxied = DashboardConfiguration(
            database: database,
            proxy: .init(header: "X-User", peers: ["127.0.0.1", "10.0.0.0/8"], secret: Self.secret)
        )
        #expect(throws: Never.self) { try proxied.validate() }
        for (header, peers, secret, secretHeader) in [
            ("X User", ["127.0.0.1"], Self.secret, "X-Secret"), ("X-User", [], Self.secret, "X-Secret"),
            ("X-User", ["everybody"], Self.secret, "X-Secret"), ("Cookie", ["::1"], Self.secret, "X-Secret"),
            ("X-User", ["::1"], "", "X-Secret"), ("X-User", ["::1"], "short", "X-Secret"),
            ("X-User", ["::1"], Self.secret, "x-user"), ("X-User", ["::1"], Self.secret, "Cookie"),
        ] {
            proxied.proxy = .init(header: header, peers: peers, secret: secret, secretHeader: secretHeader)
            #expect(throws: DashboardError.self, "\(header), \(peers), \(secret), \(secretHeader)") {
                try proxied.validate()
            }
        }
        proxied.proxy = .init(header: "X-User", peers: ["::1"], secret: Self.secret)
        for change: (inout DashboardConfiguration) -> Void in [
            { $0.hosts = ["dashboard.example.com:8443"] }, { $0.hosts = ["*"] }, { $0.trustedProxies = ["nginx"] },
            { $0.trustedProxies = ["10.0.0.0/33"] },
        ] {
            var configuration = proxied
            change(&configuration)
            #expect(throws: DashboardError.self) { try configuration.validate() }
        }
        #expect(!"\(proxied)".contains(Self.secret), "it is not shown")
    }

    /// The secret that the proxy of the tests sends.
    private static let secret = "0123456789abcdef0123456789abcdef"

    @Test("a trusted proxy names the user and the address, and no other client can")
    func forwarded() {
        let proxies = TrustedProxies(["10.0.0.1", "fd00::/8"])
        for (peer, forwarded, client) in [
            ("192.0.2.7", [], "192.0.2.7"), ("192.0.2.7", ["203.0.113.9"], "192.0.2.7"),
            ("10.0.0.1", [], "10.0.0.1"), ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", ["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
            ("10.0.0.1", ["1.1.1.1, 203.0.113.9, fd12::1"], "203.0.113.9"),
            ("10.0.0.1", ["203.0.113.9:4711"], "203.0.113.9"), ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", ["203.0.113.9, unknown"], "10.0.0.1"), ("10.0.0.2", ["203.0.113.9"], "10.0.0.2"),
        ] {
            let request = WebRequest(method: .get, path: "/", headers: ["x-forwarded-for": forwarded], peer: peer)
            #expect(proxies.client(of: request) == ClientAddress(client), "\(peer) \(forwarded)")
        }
        #expect(proxies.client(of: WebRequest(method: .get, path: "/")) == nil)
    }

    @Test("behind a trusted proxy, a client that guesses locks out no other", .enabled(if: TestDatabase.isAvailable))
    func guessesBehindProxy() async throws {
        try await withSite {
            $0.trustedProxies = ["10.0.0.1"]
        } _: { test in
            func guess(_ user: String, peer: String, from address: String, _ password: String) async throws -> Int {
                var visitor = Visitor(site: test.site)
                visitor.peer = peer
                visitor.headers["x-forwarded-for"] = [address]
                _ = await visitor.get("/login")
                let form = ["user": user, "password": password]
                return await visitor.post("/login", form, token: try visitor.loginToken()).status
            }
            for number in 0..<40 {
                _ = try await guess("user\(number)", peer: "10.0.0.1", from: "203.0.113.9", "wrong")
            }
            #expect(try await guess("ann", peer: "10.0.0.1", from: "203.0.113.9", TestSite.password) == 429)
            #expect(try await guess("ann", peer: "10.0.0.1", from: "203.0.113.10", TestSite.password) == 303)
            for number in 0..<40 {
                _ = try await guess("user\(number)", peer: "192.0.2.66", from: "198.51.100.\(number)", "wrong")
            }
            #expect(
                try await guess("ann", peer: "192.0.2.66", from: "198.51.100.99", TestSite.password) == 429,
                "from anybody else the header counts for nothing"
            )
        }
    }

    @Test("only the dashboard's own names are answered, not another site's name that points here")
    func hosts() {
        let hosts = AllowedHosts(listeningOn: "10.0.0.5", others: ["Dashboard.example.com"])
        for good in [
            "localhost", "LOCALHOST:8090", "127.0.0.1", "127.0.0.1:8090", "[::1]:8090", "10.0.0.5:8090",
            "dashboard.example.com", "dashboard.EXAMPLE.com.:443",
        ] {
            #expect(hosts.contain(good), "\(good)")
        }
        for bad: String? in [
            nil, "", "evil.test", "evil.test:8090", "localhost.evil.test", "dashboard.example.com.evil.test",
            "10.0.0.6",
            "localhost:8090:1", "[localhost]", "localhost/", "evil.test#localhost", "user@localhost", "[::2]",
        ] {
            #expect(!hosts.contain(bad), "\(bad ?? "none")")
        }
        let everywhere = AllowedHosts(listeningOn: "0.0.0.0", others: [])
        #expect(
            everywhere.contain("10.0.0.6:8090") && everywhere.contain("[fd00::1]") && !everywhere.contain("evil.test")
        )
    }

    @Test("a request under another name is refused, whatever it asks for", .enabled(if: TestDatabase.isAvailable))
    func otherHost() async throws {
        try await withSite { test in
            var ann = try await test.logIn("ann")
            for host in [["evil.test"], ["dashboard.test", "evil.test"], []] {
                ann.headers["host"] = host
                for path in ["/", "/login", "/jobs", "/assets/style.css", "/nowhere"] {
                    let answer = await ann.get(path)
                    #expect(answer.status == 421 && answer.text.contains("dashboard.hosts"), "\(path) \(host)")
                }
                #expect(await ann.post("/queues/pause", ["scope": "queue", "name": "q", "reason": "r"]).status == 421)
            }
        }
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

    @Test("a login form from another site is refused", .enabled(if: TestDatabase.isAvailable))
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

    @Test(
        "a proxy's header is believed from its address alone, with its secret, and once",
        .enabled(if: TestDatabase.isAvailable)
    )
    func proxy() async throws {
        try await withSite { configuration in
            configuration.users = []
            configuration.proxy = .init(
                header: "X-Forwarded-User",
                peers: ["10.0.0.1"],
                secret: Self.secret,
                operators: ["ann"]
            )
        } _: { test in
            var visitor = Visitor(site: test.site)
            visitor.headers["x-forwarded-user"] = ["ann"]
            visitor.headers["x-breakwater-secret"] = [Self.secret]
            #expect(await visitor.get("/").status == 403, "from anybody else it counts for nothing")
            visitor.peer = "10.0.0.1"
            #expect(await visitor.get("/").text.contains("operator"))
            for secret in [nil, [], [""], ["guess"], [Self.secret + "0"], [Self.secret, Self.secret]] {
                visitor.headers["x-breakwater-secret"] = secret
                #expect(await visitor.get("/").status == 403, "\(secret ?? [])")
            }
            visitor.headers["x-breakwater-secret"] = [Self.secret]
            visitor.headers["x-forwarded-user"] = ["carl"]
            #expect(await visitor.get("/").text.contains("read-only"))
            #expect(await visitor.post("/queues/pause", ["scope": "queue", "name": "q", "reason": "r"]).status == 403)
            visitor.headers["x-forwarded-user"] = ["carl", "ann"]
            #expect(await visitor.get("/").status == 403, "nobody knows who is meant")
        }
    }
}

extension LoginThrottle {
    /// Makes a wrong guess. Returns how long it must wait, or nil if it was checked.
    fileprivate mutating func guess(_ user: String, _ client: ClientAddress?, _ now: Instant) -> Duration? {
        if let wait = admit(user: user, client: client, now: now) { return wait }
        failed(user: user, client: client, now: now)
        return nil
    }
}
