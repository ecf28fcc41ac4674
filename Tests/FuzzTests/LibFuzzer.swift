import Foundation

/// The entry point that libFuzzer calls, for the target that `BREAKWATER_FUZZ_TARGET` names.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ bytes: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    do {
        try chosen.read(Array(UnsafeBufferPointer(start: bytes, count: count)))
    } catch {
        // What libFuzzer looks for is a crash, after which it keeps the input.
        fatalError("\(error)")
    }
    return 0
}

private let chosen: FuzzTarget = {
    let name = ProcessInfo.processInfo.environment["BREAKWATER_FUZZ_TARGET"] ?? ""
    guard let target = FuzzTarget.all.first(where: { $0.name == name }) else {
        fatalError("BREAKWATER_FUZZ_TARGET is '\(name)'; it must be one of \(FuzzTarget.all.map(\.name))")
    }
    return target
}()
