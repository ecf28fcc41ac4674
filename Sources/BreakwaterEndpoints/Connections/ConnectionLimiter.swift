import NIOCore
import NIOHTTPTypes
import Synchronization

/// Closes the connections of one server as a ``ConnectionTable`` decides.
final class ConnectionLimiter: Sendable {
    private struct State: Sendable {
        var table: ConnectionTable
        var channels: [Int: any Channel] = [:]
        var lastID = 0
    }

    let limits: ConnectionLimits
    private let state: Mutex<State>

    init(_ limits: ConnectionLimits) {
        self.limits = limits
        state = Mutex(State(table: ConnectionTable(most: limits.most, mostOfClient: limits.mostOfClient)))
    }

    /// Adds a connection, and closes the one that must make room.
    ///
    /// - Returns: The connection's number.
    func open(_ channel: any Channel, address: String?) -> Int {
        let address = address.flatMap(ClientAddress.init)
        let isExempt = address.map { address in limits.exempt.contains { $0.contains(address) } } ?? true
        let (id, leaving) = state.withLock { state in
            state.lastID += 1
            state.channels[state.lastID] = channel
            let leaving = state.table.open(state.lastID, client: isExempt ? nil : address?.client)
            return (state.lastID, leaving.flatMap { state.channels.removeValue(forKey: $0) })
        }
        leaving?.close(promise: nil)
        return id
    }

    /// Records that a request or its answer is complete.
    func mark(_ id: Int, isBusy: Bool) { state.withLock { $0.table.mark(id, isBusy: isBusy) } }

    /// Records that a connection is closed.
    func close(_ id: Int) {
        state.withLock { state in
            state.table.close(id)
            state.channels[id] = nil
        }
    }
}

/// The phase of a connection, which changes with the parts of requests and answers.
///
/// `waiting` becomes `receiving` with the head of a request. `receiving` becomes `answering` with the end of the
/// request, or `waiting` if the answer was complete before the request. `answering` becomes `waiting` with the end of
/// the last answer.
struct ConnectionPhase: Sendable, Equatable {
    enum Kind: Sendable, Equatable {
        case waiting
        case receiving
        case answering
    }

    private var unanswered = 0
    private var isReceiving = false
    private var hasAnswered = false

    var kind: Kind {
        if isReceiving { return .receiving }
        return unanswered > 0 ? .answering : .waiting
    }

    mutating func head() {
        isReceiving = true
        unanswered += 1
    }

    mutating func end() { isReceiving = false }

    mutating func answered() {
        unanswered = max(0, unanswered - 1)
        hasAnswered = true
    }

    /// How long the connection may stay in this phase.
    func time(_ limits: ConnectionLimits) -> Duration {
        switch kind {
        case .waiting: hasAnswered ? limits.idleTime : limits.headTime
        case .receiving: limits.bodyTime
        case .answering: limits.answerTime
        }
    }
}

/// Reports one connection's requests and answers to the limiter, and closes the connection when a phase takes too long.
///
/// A deadline begins when the connection's phase changes, so that sending a byte now and then does not extend it.
final class ConnectionLimitHandler: ChannelDuplexHandler, RemovableChannelHandler {
    typealias InboundIn = HTTPRequestPart
    typealias InboundOut = HTTPRequestPart
    typealias OutboundIn = HTTPResponsePart
    typealias OutboundOut = HTTPResponsePart

    private let limiter: ConnectionLimiter
    private var id: Int?
    private var phase = ConnectionPhase()
    private var deadline: Scheduled<Void>?

    init(_ limiter: ConnectionLimiter) { self.limiter = limiter }

    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { begin(context) }
    }

    func channelActive(context: ChannelHandlerContext) {
        begin(context)
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        finish()
        context.fireChannelInactive()
    }

    func handlerRemoved(context: ChannelHandlerContext) { finish() }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head: change(context) { $0.head() }
        case .body: break
        case .end: change(context) { $0.end() }
        }
        context.fireChannelRead(data)
    }

    func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        guard case .end = unwrapOutboundIn(data) else {
            context.write(data, promise: promise)
            return
        }
        let written = promise ?? context.eventLoop.makePromise()
        written.futureResult.assumeIsolated().whenSuccess { [self] in
            if id != nil { change(context) { $0.answered() } }
        }
        context.write(data, promise: written)
    }

    private func begin(_ context: ChannelHandlerContext) {
        guard id == nil else { return }
        id = limiter.open(context.channel, address: context.remoteAddress?.ipAddress)
        setDeadline(context)
    }

    private func finish() {
        deadline?.cancel()
        deadline = nil
        id.map(limiter.close)
        id = nil
    }

    private func change(_ context: ChannelHandlerContext, _ body: (inout ConnectionPhase) -> Void) {
        let before = phase.kind
        body(&phase)
        // A connection that is being answered keeps its deadline, even if the next request has already arrived.
        guard let id, phase.kind != before else { return }
        limiter.mark(id, isBusy: phase.kind == .answering)
        setDeadline(context)
    }

    private func setDeadline(_ context: ChannelHandlerContext) {
        deadline?.cancel()
        deadline = context.eventLoop.assumeIsolated().scheduleTask(in: .init(phase.time(limiter.limits))) {
            context.close(promise: nil)
        }
    }
}

@available(*, unavailable)
extension ConnectionLimitHandler: Sendable {}
