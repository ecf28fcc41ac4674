/// The beginning of a file in the format of Linux's programs and libraries, ELF.
struct ELFHeader {
    /// The size of the header for 64 bits.
    static let size = 64
    /// The size of an entry in the table of segments, for 64 bits.
    private static let segmentSize = 56

    private static let machines: [UInt64: String] = [
        3: "x86", 40: "ARM", 62: "x86-64", 183: "AArch64", 243: "RISC-V", 21: "PowerPC 64", 22: "S/390",
    ]
    #if arch(x86_64)
        private static let ownMachine: UInt64? = 62
    #elseif arch(arm64)
        private static let ownMachine: UInt64? = 183
    #else
        /// Unknown, so that the system's loader decides.
        private static let ownMachine: UInt64? = nil
    #endif

    private let bytes: [UInt8]

    /// - Parameter bytes: The first ``size`` bytes of the file, or fewer if it has no more.
    init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// What keeps a file with this header from being loaded, as the end of a sentence; nil if nothing is seen here.
    var problem: String? {
        guard bytes.starts(with: [0x7F, UInt8(ascii: "E"), UInt8(ascii: "L"), UInt8(ascii: "F")]) else {
            return "is not a shared library"
        }
        guard bytes.count >= Self.size else { return "is cut off after \(bytes.count) bytes" }
        let machine = number(at: 18, 2)
        if let own = Self.ownMachine, machine != own || !hasKnownForm {
            let bits = (bytes[4] == 1 ? ", 32 bits" : "") + (bytes[5] == 2 ? ", big-endian" : "")
            return "is built for \(Self.machines[machine] ?? "another processor (\(machine))")\(bits), "
                + "and this worker for \(Self.machines[own] ?? "\(own)")"
        }
        switch number(at: 16, 2) {
        case 3: return nil
        case 1: return "is an object file; link it with -shared"
        case 2: return "is a program; build a library, with -shared -fPIC"
        default: return "is not a shared library"
        }
    }

    /// Where the table of segments is in the file; nil if that is unknown.
    var segments: Range<Int>? {
        guard hasKnownForm, number(at: 54, 2) == Self.segmentSize, let start = Int(exactly: number(at: 32, 8)) else {
            return nil
        }
        let (end, overflowed) = start.addingReportingOverflow(Int(number(at: 56, 2)) * Self.segmentSize)
        return overflowed ? nil : start..<end
    }

    /// The same for the table of segments. The loader crashes where a file ends before its segments do.
    ///
    /// - Parameters:
    ///   - table: The table as it was read.
    ///   - count: How many bytes it must have.
    ///   - fileSize: The size of the file.
    static func problem(withSegments table: [UInt8], of count: Int, fileSize: UInt64) -> String? {
        let cut = "is cut off after \(fileSize) bytes"
        guard table.count == count else { return cut }
        for start in stride(from: 0, to: count, by: segmentSize) where little(table, at: start, 4) == 1 {
            let (offset, size) = (little(table, at: start + 8, 8), little(table, at: start + 32, 8))
            let (end, overflowed) = offset.addingReportingOverflow(size)
            if overflowed || end > fileSize { return cut }
        }
        return nil
    }

    /// 64 bits and little-endian, as on all processors that are known here.
    private var hasKnownForm: Bool { bytes[4] == 2 && bytes[5] == 1 }

    private func number(at index: Int, _ count: Int) -> UInt64 { Self.little(bytes, at: index, count) }

    private static func little(_ bytes: [UInt8], at index: Int, _ count: Int) -> UInt64 {
        bytes[index..<index + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}
