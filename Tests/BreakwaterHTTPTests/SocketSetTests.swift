import Glibc
import Testing

@testable import BreakwaterHTTP

// As curl/multi.h defines them.
private let pollIn: CInt = 1
private let pollRemove: CInt = 4
private let selectIn: CInt = 1

@Suite("The sockets that curl waits for") struct SocketSetTests {
    /// A set, a pipe as its event, and a connection with a peer.
    private final class Fixture {
        let event: (reading: CInt, writing: CInt)
        let set: SocketSet
        let socket: CInt
        let peer: CInt

        init() throws {
            var ends: [CInt] = [-1, -1]
            let noPipe = pipe(&ends)
            try #require(noPipe == 0)
            event = (ends[0], ends[1])
            set = try #require(SocketSet(wakeUp: event.reading))
            let error = socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends)
            try #require(error == 0)
            (socket, peer) = (ends[0], ends[1])
            set.opened(socket)
        }

        deinit { for descriptor in [event.reading, event.writing, peer] { close(descriptor) } }

        func say() { _ = write(peer, "x", 1) }
    }

    @Test("a connection is reported while curl wants it, and at once when curl wants it again")
    func interest() throws {
        let it = try Fixture()
        it.set.want(pollIn, on: it.socket)
        #expect(it.set.wait(milliseconds: 0).isEmpty)
        it.say()
        let ready = it.set.wait(milliseconds: 60_000)
        #expect(ready.map(\.socket) == [it.socket])
        #expect(ready.map(\.flags) == [selectIn])
        it.set.want(pollRemove, on: it.socket)
        #expect(it.set.wait(milliseconds: 0).isEmpty)
        it.set.want(pollIn, on: it.socket)
        #expect(it.set.wait(milliseconds: 60_000).map(\.socket) == [it.socket])
        _ = it.set.closeSocket(it.socket)
    }

    @Test("a kept connection that the server closes ends one wait, and no other")
    func closedWhileKept() throws {
        let it = try Fixture()
        it.set.want(pollIn, on: it.socket)
        it.set.want(pollRemove, on: it.socket)
        shutdown(it.peer, CInt(SHUT_RDWR))
        #expect(it.set.wait(milliseconds: 60_000).isEmpty)
        let time = ContinuousClock().measure { _ = it.set.wait(milliseconds: 100) }
        #expect(time >= .milliseconds(90))
        _ = it.set.closeSocket(it.socket)
    }

    @Test("a new socket with the number of a closed one is watched")
    func sameNumber() throws {
        let it = try Fixture()
        it.set.want(pollIn, on: it.socket)
        it.set.want(pollRemove, on: it.socket)
        _ = it.set.closeSocket(it.socket)
        let other = try Fixture()
        let descriptor = dup2(other.socket, it.socket)
        it.set.opened(descriptor)
        it.set.want(pollIn, on: descriptor)
        other.say()
        #expect(it.set.wait(milliseconds: 60_000).map(\.socket) == [descriptor])
        _ = it.set.closeSocket(descriptor)
        _ = other.set.closeSocket(other.socket)
    }

    @Test("the event ends the wait")
    func event() throws {
        let it = try Fixture()
        _ = write(it.event.writing, "12345678", 8)
        #expect(it.set.wait(milliseconds: 60_000).isEmpty)
        _ = it.set.closeSocket(it.socket)
    }
}
