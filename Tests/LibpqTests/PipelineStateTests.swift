import Testing

@testable import Libpq

/// Checks the result of a mutating call, which `#expect` cannot contain.
private func check<Value: Equatable>(
    _ value: Value,
    _ expected: Value,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(value == expected, sourceLocation: sourceLocation)
}

@Suite("The order of calls on a connection")
struct PipelineStateTests {
    private let start = ContinuousClock.now

    private func unit(_ id: UInt64, _ kind: PipelineState.Kind = .pipeline(statements: 1)) -> PipelineState.Unit {
        PipelineState.Unit(id: id, kind: kind, deadline: start + .seconds(Int64(id)))
    }

    private func state(_ units: [PipelineState.Unit], sending: Bool = true) -> PipelineState {
        var state = PipelineState()
        for unit in units { state.submit(unit) }
        while sending, state.dequeueNextToSend() != nil {}
        return state
    }

    @Test func `all that wait are sent at once, up to the limit`() {
        let state = state((1...300).map { unit($0) })
        #expect(state.inFlight.map(\.id) == Array(1...256))
        #expect(state.waiting.map(\.id) == Array(257...300))
    }

    @Test func `behind a pooler one is sent when the one before is answered`() {
        var state = PipelineState()
        state.maximumInFlight = 1
        for id in 1...2 { state.submit(unit(UInt64(id))) }
        check(state.dequeueNextToSend()?.id, 1)
        check(state.dequeueNextToSend(), nil)
        _ = state.unitEnded(at: start)
        check(state.dequeueNextToSend()?.id, 2)
    }

    @Test func `a script goes alone`() {
        var state = state([unit(1), unit(2, .script), unit(3)])
        #expect(state.inFlight.map(\.id) == [1])
        _ = state.unitEnded(at: start)
        check(state.dequeueNextToSend()?.id, 2)
        check(state.dequeueNextToSend(), nil)
        _ = state.unitEnded(at: start)
        check(state.dequeueNextToSend()?.id, 3)
    }

    @Test func `a unit that was not sent is refused without a word to the server`() {
        var state = state([unit(1)], sending: false)
        check(state.stop(1, .cancelled, at: start) == .refuse(1, .cancelled), true)
        check(state.dequeueNextToSend(), nil)
        check(state.stop(1, .cancelled, at: start), .nothing)
    }

    @Test func `while a cancel is under way nothing is sent, until the answer and the request are both over`() {
        for requestFirst in [true, false] {
            var state = state([unit(1)])
            check(state.stop(1, .cancelled, at: start) == .cancelOnServer(1, .cancelled), true)
            state.submit(unit(2))
            check(state.dequeueNextToSend(), nil)
            if requestFirst { state.cancelRequestReturned() } else { _ = state.unitEnded(at: start) }
            check(state.dequeueNextToSend(), nil)
            if requestFirst { _ = state.unitEnded(at: start) } else { state.cancelRequestReturned() }
            check(state.dequeueNextToSend()?.id, 2)
        }
    }

    @Test func `with another behind it in flight, stopping the head closes the connection`() {
        var state = state([unit(1), unit(2)])
        check(state.stop(1, .timedOut, at: start) == .close(1, .timedOut), true)
    }

    @Test func `one behind the head is given up at once and cancelled when its turn comes`() {
        var state = state([unit(1), unit(2)])
        check(state.stop(2, .cancelled, at: start) == .abandon(2, .cancelled), true)
        state.submit(unit(3))
        check(state.dequeueNextToSend(), nil)
        let ended = state.unitEnded(at: start)
        #expect(ended?.ended.id == 1)
        #expect(ended?.1 == .cancelOnServer(2, .cancelled))
    }

    @Test func `a server that is silent after a cancel has the connection closed when the grace is over`() {
        var state = state([unit(1)])
        check(state.expire(at: start + .milliseconds(999)), .nothing)
        #expect(state.nextDeadline == start + .seconds(1))
        check(state.expire(at: start + .seconds(1)) == .cancelOnServer(1, .timedOut), true)
        #expect(state.nextDeadline == start + .seconds(1) + PipelineState.cancelGrace)
        check(state.expire(at: start + .seconds(3)), .nothing)
        check(state.expire(at: start + .seconds(4)) == .close(1, .timedOut), true)
    }

    @Test func `an answer more than the unit has statements is out of step`() {
        var state = state([unit(1, .pipeline(statements: 2))])
        check([state.statementEnded(), state.statementEnded(), state.statementEnded()], [true, true, false])
        check(state.unitEnded(at: start)?.ended.id, 1)
        check(state.unitEnded(at: start)?.ended, nil)
    }
}
