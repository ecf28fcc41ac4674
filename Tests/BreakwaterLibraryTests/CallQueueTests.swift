import Breakwater
import BreakwaterTesting
import Foundation
import Testing

@testable import BreakwaterLibrary

@Suite("The queue of a library's calls") struct CallQueueTests {
    private let start = ContinuousClock.now
    private let failure = JobFailure("library.open", "no")

    /// A queue whose library the first thread has opened.
    private func opened(limit: Int) -> CallQueue {
        var queue = CallQueue(limit: limit)
        queue.start()
        #expect(queue.takeActions() == [.start(thread: 1, .open)])
        queue.opened(1, nil, at: start)
        #expect(queue.takeActions() == [])
        return queue
    }

    @Test("keeps calls until the library is open, then uses idle threads before it starts others")
    func order() {
        var queue = CallQueue(limit: 2)
        for call: UInt64 in 1...3 { queue.submit(call, at: start) }
        #expect(queue.takeActions() == [.start(thread: 1, .open)])
        queue.opened(1, nil, at: start)
        #expect(queue.takeActions() == [.give(thread: 1, .run(1)), .start(thread: 2, .run(2))])
        queue.returned(2, at: start)
        #expect(queue.takeActions() == [.finish(2, .returned), .give(thread: 2, .run(3))])
        queue.returned(1, at: start)
        queue.returned(2, at: start)
        #expect(queue.takeActions() == [.finish(1, .returned), .finish(3, .returned)])
        #expect(queue.threadCount == 2)
    }

    @Test("ends waiting calls as unable if the library refuses to be opened, and opens it again for the next one")
    func refusal() {
        var queue = CallQueue(limit: 2)
        queue.submit(1, at: start)
        queue.submit(2, at: start)
        queue.opened(1, failure, at: start)
        #expect(
            queue.takeActions()
                == [.start(thread: 1, .open), .finish(1, .unable(failure)), .finish(2, .unable(failure))]
        )
        queue.submit(3, at: start)
        #expect(queue.takeActions() == [.give(thread: 1, .open)])
    }

    @Test("cancels what waits by itself, and tells the library of what runs, once")
    func cancellation() {
        var queue = opened(limit: 1)
        queue.submit(1, at: start)
        queue.submit(2, at: start)
        queue.cancel(2, at: start)
        queue.cancel(1, at: start)
        queue.cancel(1, at: start)
        queue.cancel(7, at: start)
        #expect(queue.takeActions() == [.give(thread: 1, .run(1)), .finish(2, .cancelled), .cancel(1)])
    }

    @Test("ends calls as unable when all threads are in calls that have ignored their cancellation for ten seconds")
    func stuck() {
        var queue = opened(limit: 2)
        queue.submit(1, at: start)
        queue.submit(2, at: start)
        queue.cancel(1, at: start)
        queue.cancel(2, at: start + .seconds(1))
        _ = queue.takeActions()
        queue.submit(3, at: start + .milliseconds(10_900))
        #expect(queue.takeActions() == [])
        queue.submit(4, at: start + .seconds(11))
        let actions = queue.takeActions()
        guard case .finish(3, .unable(let failure)) = actions.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(failure.name == "library.stuck")
        #expect(actions == [.finish(3, .unable(failure)), .finish(4, .unable(failure))])
        queue.returned(1, at: start + .seconds(12))
        queue.submit(5, at: start + .seconds(12))
        #expect(queue.takeActions() == [.finish(1, .returned), .give(thread: 1, .run(5))])
    }

    @Test("goes on with the threads that there are if another cannot be started")
    func noThread() {
        var queue = opened(limit: 3)
        queue.submit(1, at: start)
        queue.submit(2, at: start)
        #expect(queue.takeActions() == [.give(thread: 1, .run(1)), .start(thread: 2, .run(2))])
        queue.startFailed(2, failure)
        #expect(queue.takeActions() == [])
        queue.returned(1, at: start)
        #expect(queue.takeActions() == [.finish(1, .returned), .give(thread: 1, .run(2))])

        var first = CallQueue(limit: 3)
        first.submit(1, at: start)
        first.startFailed(1, failure)
        #expect(first.takeActions() == [.start(thread: 1, .open), .finish(1, .unable(failure))])
        first.stop(at: start)
        #expect(first.takeActions() == [.stopped(abandoned: 0)])
    }

    @Test("closes the library after the last call, and only then ends its threads")
    func stop() {
        var queue = opened(limit: 1)
        queue.submit(1, at: start)
        queue.submit(2, at: start)
        _ = queue.takeActions()
        queue.stop(at: start)
        #expect(queue.takeActions() == [.finish(2, .released), .cancel(1)])
        queue.submit(3, at: start)
        #expect(queue.takeActions() == [.finish(3, .released)])
        queue.returned(1, at: start)
        #expect(queue.takeActions() == [.finish(1, .returned), .give(thread: 1, .close)])
        queue.closed(1)
        #expect(queue.takeActions() == [.give(thread: 1, .end), .stopped(abandoned: 0)])
        #expect(queue.threadCount == 0)
    }

    @Test("closes a library that was being opened when the stop came")
    func stopWhileOpening() {
        var queue = CallQueue(limit: 1)
        queue.start()
        queue.stop(at: start)
        #expect(queue.takeActions() == [.start(thread: 1, .open)])
        queue.opened(1, nil, at: start)
        #expect(queue.takeActions() == [.give(thread: 1, .close)])
        var refused = CallQueue(limit: 1)
        refused.start()
        refused.stop(at: start)
        refused.opened(1, failure, at: start)
        #expect(
            refused.takeActions()
                == [.start(thread: 1, .open), .give(thread: 1, .end), .stopped(abandoned: 0)]
        )
    }

    @Test("gives up threads that do not come back, and begins nothing more")
    func abandoned() {
        var queue = opened(limit: 2)
        queue.submit(1, at: start)
        queue.submit(2, at: start)
        queue.returned(2, at: start)
        queue.stop(at: start)
        _ = queue.takeActions()
        queue.abandon()
        #expect(queue.takeActions() == [.give(thread: 2, .end), .stopped(abandoned: 1)])
        queue.abandon()
        queue.start()
        queue.submit(3, at: start)
        #expect(queue.takeActions() == [.finish(3, .released)])
        queue.returned(1, at: start)
        #expect(queue.takeActions() == [.finish(1, .returned), .give(thread: 1, .end)])
    }

    /// Performs the actions of a queue, and checks each against the contract of the header.
    private struct World {
        var queue: CallQueue
        var busy: [Int: CallQueue.Work] = [:]
        var idle: Set<Int> = []
        var isOpen = false
        var open: Set<UInt64> = []
        var stops = 0

        mutating func perform(failing: Bool) {
            for action in queue.takeActions() {
                switch action {
                case .start(let thread, let work):
                    #expect(busy[thread] == nil && !idle.contains(thread))
                    if failing {
                        queue.startFailed(thread, JobFailure("worker.EAGAIN", ""))
                    } else {
                        begin(work, on: thread)
                    }
                case .give(let thread, let work):
                    #expect(idle.remove(thread) != nil)
                    if work != .end { begin(work, on: thread) }
                case .cancel(let call): #expect(busy.values.contains(.run(call)))
                case .finish(let call, _): #expect(open.remove(call) != nil)
                case .stopped(let abandoned):
                    #expect(abandoned == 0 && busy.isEmpty && !isOpen)
                    stops += 1
                }
            }
            #expect(busy.count <= queue.limit)
        }

        private mutating func begin(_ work: CallQueue.Work, on thread: Int) {
            switch work {
            case .open: #expect(!isOpen && busy.isEmpty)
            case .run: #expect(isOpen)
            case .close: #expect(isOpen && busy.isEmpty)
            case .end: Issue.record("a thread cannot begin with its end")
            }
            busy[thread] = work
        }

        /// A thread has done what it was given.
        mutating func end(_ thread: Int, refusing: Bool, at now: ContinuousClock.Instant) {
            guard let work = busy.removeValue(forKey: thread) else { return }
            idle.insert(thread)
            switch work {
            case .open:
                isOpen = !refusing
                queue.opened(thread, refusing ? JobFailure("library.open", "") : nil, at: now)
            case .run: queue.returned(thread, at: now)
            case .close:
                isOpen = false
                queue.closed(thread)
            case .end: break
            }
        }
    }

    @Test("ends every call once, whatever comes in whichever order")
    func random() {
        let seed =
            ProcessInfo.processInfo.environment["BREAKWATER_SEED"].flatMap { UInt64($0) } ?? .random(in: 0...(.max))
        print("BREAKWATER_SEED=\(seed)")
        var random = SeededGenerator(seed)
        for _ in 0..<300 {
            var world = World(queue: CallQueue(limit: .random(in: 1...4, using: &random)))
            var now = start
            var last: UInt64 = 0
            for _ in 0..<120 {
                now += .milliseconds(.random(in: 0...3000, using: &random))
                switch Int.random(in: 0..<10, using: &random) {
                case 0...3:
                    last += 1
                    world.open.insert(last)
                    world.queue.submit(last, at: now)
                case 4: if last > 0 { world.queue.cancel(.random(in: 1...last, using: &random), at: now) }
                case 5...8:
                    if let thread = world.busy.keys.sorted().randomElement(using: &random) {
                        world.end(thread, refusing: Int.random(in: 0..<5, using: &random) == 0, at: now)
                    }
                default: world.queue.start()
                }
                while !world.queue.isSettled { world.perform(failing: Int.random(in: 0..<6, using: &random) == 0) }
            }
            world.queue.stop(at: now)
            for _ in 0..<20 {
                while !world.queue.isSettled { world.perform(failing: false) }
                for thread in world.busy.keys.sorted() { world.end(thread, refusing: false, at: now) }
            }
            #expect(world.stops == 1)
            #expect(world.open == [])
            #expect(world.queue.threadCount == 0)
        }
    }
}

/// The same numbers for the same seed.
private struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(_ seed: UInt64) { state = seed }

    /// SplitMix64, by Sebastiano Vigna.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
