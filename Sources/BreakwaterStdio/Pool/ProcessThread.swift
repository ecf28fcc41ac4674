import BreakwaterProcess
import CProcess
import Glibc
import Logging

/// The thread of a pool. It lives from the first start of a process until the pool has stopped.
final class ProcessThread {
    private let host: ProcessHost
    private let wake: CInt
    private var channels: [ProcessChannel?] = []
    private var events: [(place: Int, event: ProcessHost.Event)] = []
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: ProcessChannel.chunkBytes, alignment: 16)
    private var nextMeasurement = ContinuousClock.now

    init(_ host: ProcessHost, wake: CInt) {
        self.host = host
        self.wake = wake
    }

    deinit { buffer.deallocate() }

    func run() {
        repeat {
            work()
            wait()
        } while host.report(takeEvents()) || !host.threadEnds(wake: wake)
    }

    private func takeEvents() -> [(place: Int, event: ProcessHost.Event)] {
        defer { events.removeAll(keepingCapacity: true) }
        return events
    }

    /// Carries out the orders, and writes what can be written.
    private func work() {
        for order in host.takeOrders() {
            switch order {
            case .start(let place): start(place)
            case .closeInput(let place): channels[place]?.closeInput()
            case .signal(let place, let signal): channels[place]?.process.signal(signal)
            }
        }
        host.takeOutput(&channels)
        for place in channels.indices where channels[place]?.wantsToWrite == true { channels[place]?.write() }
    }

    private func start(_ place: Int) {
        while channels.count <= place { channels.append(nil) }
        do {
            let process = try SpawnedProcess(
                host.program,
                variables: ["BREAKWATER_PROTOCOL": "\(WorkerMessage.version)"]
            )
            host.note(process.number, at: place)
            channels[place] = ProcessChannel(
                process,
                maxLineBytes: host.settings.maxLineBytes,
                logger: host.logger(of: place, process: process.number)
            )
        } catch {
            events.append((place, .startFailed(error.failure)))
        }
    }

    private struct Watched {
        var place: Int
        var isExit = false
        var isOutput = false
        var isErrors = false
    }

    /// Waits until something can be read or written, or is due, and reads it.
    private func wait() {
        var descriptors = [pollfd(fd: wake, events: Int16(POLLIN), revents: 0)]
        var watched: [Watched] = [Watched(place: -1)]
        func watch(_ descriptor: CInt, _ what: Watched, for events: Int32) {
            descriptors.append(pollfd(fd: descriptor, events: Int16(events), revents: 0))
            watched.append(what)
        }
        for (place, channel) in channels.enumerated() {
            guard let channel else { continue }
            if channel.isOutputOpen {
                watch(channel.process.output, Watched(place: place, isOutput: true), for: POLLIN)
            }
            if channel.areErrorsOpen {
                watch(channel.process.errors, Watched(place: place, isErrors: true), for: POLLIN)
            }
            if channel.wantsToWrite { watch(channel.process.input, Watched(place: place), for: POLLOUT) }
            watch(channel.process.exit, Watched(place: place, isExit: true), for: POLLIN)
        }
        var deadline = events.isEmpty ? host.prepareToWait() : .now
        if host.settings.recycle.memoryBytes != nil { deadline = min(deadline ?? nextMeasurement, nextMeasurement) }
        let timeout = deadline.map(Self.milliseconds(until:)) ?? -1
        let ready = poll(&descriptors, nfds_t(descriptors.count), timeout)
        measure()
        guard ready > 0 else { return }
        if descriptors[0].revents != 0 {
            var count: UInt64 = 0
            _ = read(wake, &count, MemoryLayout<UInt64>.size)
        }
        for index in descriptors.indices.dropFirst() where descriptors[index].revents != 0 {
            let place = watched[index].place
            let add = { (event: ProcessHost.Event) in self.events.append((place, event)) }
            let logger = logger(of: place)
            if watched[index].isOutput {
                channels[place]?.readOutput(buffer, add)
            } else if watched[index].isErrors {
                channels[place]?.readErrors(buffer, logger: logger)
            } else if watched[index].isExit {
                if channels[place]?.end(buffer, name: host.program.command[0], logger: logger, add) == true {
                    channels[place] = nil
                    host.note(nil, at: place)
                }
            }
        }
    }

    private func logger(of place: Int) -> () -> Logger {
        let number = channels[place]?.process.number ?? 0
        return { self.host.logger(of: place, process: number) }
    }

    /// Measures the memory of the processes once a second, if it is limited.
    private func measure() {
        guard host.settings.recycle.memoryBytes != nil, .now >= nextMeasurement else { return }
        nextMeasurement = .now + .seconds(1)
        for (place, channel) in channels.enumerated() {
            if let bytes = channel?.process.memory { events.append((place, .measured(bytes))) }
        }
    }

    /// The time until a deadline in milliseconds, rounded up so that the deadline has passed when `poll` returns.
    private static func milliseconds(until deadline: ContinuousClock.Instant) -> CInt {
        let (seconds, attoseconds) = (deadline - .now).components
        if seconds < 0 || attoseconds < 0 { return 0 }
        return CInt(min(seconds, 86_400)) * 1_000 + CInt(attoseconds / 1_000_000_000_000_000) + 1
    }
}
