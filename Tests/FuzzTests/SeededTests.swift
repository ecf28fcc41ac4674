import BreakwaterTesting
import Foundation
import Testing

@Suite("Random input, from a seed that BREAKWATER_SEED sets, breaks no parser")
struct SeededTests {
    private static let rounds =
        ProcessInfo.processInfo.environment["BREAKWATER_FUZZ_ROUNDS"].flatMap { Int($0) } ?? 500

    @Test("made from valid samples", arguments: FuzzTarget.all.map(\.name))
    func random(name: String) async throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let seed =
            ProcessInfo.processInfo.environment["BREAKWATER_SEED"].flatMap { UInt64($0) } ?? .random(in: 0...UInt64.max)
        print("\(name): BREAKWATER_SEED=\(seed)")
        var mutator = Mutator(samples: target.samples, seed: seed)
        for round in 0..<Self.rounds {
            // Other tests need the thread too.
            await Task.yield()
            let input = mutator.next()
            do {
                try target.read(input)
            } catch {
                Issue.record("BREAKWATER_SEED=\(seed), round \(round), \(input): \(error)")
                return
            }
        }
    }

    @Test("taken from the hostile corpus", arguments: FuzzTarget.all.map(\.name))
    func corpus(name: String) async throws {
        let target = try #require(FuzzTarget.all.first { $0.name == name })
        let samples = target.samples + HostileCorpus.outputs.map { Array($0.value.prefix(200_000)) }
        for sample in samples {
            try target.read(sample)
            await Task.yield()
        }
    }
}

/// Makes input by changing, cutting and joining samples.
struct Mutator {
    private let samples: [[UInt8]]
    private var generator: SplitMix64
    private static let pieces: [[UInt8]] =
        HostileCorpus.texts.map { Array($0.value.utf8.prefix(50)) } + [
            [0xFF], [0x80], [0, 0, 0, 0], [0xFF, 0xFF, 0xFF, 0xFF], [0x7F, 0xFF, 0xFF, 0xFF], [0x80, 0, 0, 0],
            Array("99999999999999999999".utf8), Array("-".utf8), Array(":".utf8), Array("[".utf8), Array("{".utf8),
        ]

    init(samples: [[UInt8]], seed: UInt64) {
        self.samples = samples
        generator = SplitMix64(state: seed)
    }

    mutating func next() -> [UInt8] {
        var input = samples.randomElement(using: &generator) ?? []
        for _ in 0..<Int.random(in: 1...8, using: &generator) {
            let place = Int.random(in: 0...input.count, using: &generator)
            let end = min(input.count, place + Int.random(in: 0...8, using: &generator))
            switch Int.random(in: 0..<6, using: &generator) {
            case 0: input.insert(.random(in: 0...255, using: &generator), at: place)
            case 1: input.removeSubrange(place..<end)
            case 2: input.insert(contentsOf: input[place..<end], at: place)
            case 3: input.insert(contentsOf: Self.pieces.randomElement(using: &generator) ?? [], at: place)
            case 4 where place < input.count: input[place] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            default: input = Array(input[..<place]) + (samples.randomElement(using: &generator) ?? []).dropFirst(place)
            }
        }
        return input
    }
}

/// The generator of Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
