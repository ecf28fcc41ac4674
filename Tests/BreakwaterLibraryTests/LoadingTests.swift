import Breakwater
import BreakwaterLibrary
import BreakwaterTesting
import Foundation
import TestPrograms
import Testing

@Suite("Loading a library") struct LoadingTests {
    private func refuses(
        _ code: LibraryPluginError.Code,
        _ message: String,
        path: String,
        entry: String = LibraryPlugin.defaultEntry,
        sourceLocation: SourceLocation = #_sourceLocation
    ) {
        let error = #expect(throws: LibraryPluginError.self, sourceLocation: sourceLocation) {
            try LibraryPlugin(path: path, entry: entry)
        }
        #expect(error?.code == code, sourceLocation: sourceLocation)
        #expect(error?.message.contains(message) == true, "\(error?.message ?? "")", sourceLocation: sourceLocation)
    }

    @Test("needs a path to a file that exists and is no directory")
    func paths() async throws {
        try await withTemporaryDirectory { directory in
            refuses(.invalidPath, "\"probe.so\" is no path with a slash", path: "probe.so")
            refuses(.invalidPath, "is no path with a slash", path: "")
            refuses(.invalidPath, "is no path with a slash", path: "/a\0b")
            refuses(.fileNotFound, "/no.so cannot be loaded: it does not exist", path: directory + "/no.so")
            refuses(.notLoadable, "it is not a file", path: directory)
            refuses(.notLoadable, "it is not a file", path: "/dev/null")
        }
    }

    @Test("needs a shared library for this processor, and says what the file is instead")
    func files() async throws {
        try await withTemporaryDirectory { directory in
            let probe = directory + "/probe.so"
            try await LibraryBuild.copyProbe(to: probe)
            let bytes = try Data(contentsOf: URL(filePath: probe))
            func expect(_ message: String, _ change: (inout Data) -> Void) throws {
                var changed = bytes
                change(&changed)
                let path = directory + "/\(UUID()).so"
                try changed.write(to: URL(filePath: path))
                refuses(.notLoadable, message, path: path)
            }
            try expect("it is not a shared library") { $0 = Data() }
            try expect("it is not a shared library") { $0 = Data("#!/bin/sh\n".utf8) }
            try expect("it is cut off after 10 bytes") { $0 = $0.prefix(10) }
            // The system's loader would crash.
            for size in stride(from: 20, to: bytes.count, by: 997) {
                if size < Int(try lastSegmentEnd(bytes)) {
                    try expect("it is cut off after \(size) bytes") { $0 = $0.prefix(size) }
                }
            }
            try expect("it is cut off after \(bytes.count) bytes") { $0[39] = 0x7F }
            try expect("it is cut off after \(bytes.count) bytes") { $0[38] = 1 }
            // The rest is the system loader's message.
            try expect(" cannot be loaded: ") {
                $0[56] = 0; $0[57] = 0
            }
            let foreign: UInt8 = bytes[18] == 62 ? 183 : 62
            try expect("it is built for \(foreign == 62 ? "x86-64" : "AArch64"), and this worker for") {
                $0[18] = foreign
            }
            try expect("it is built for another processor (65280), and") {
                $0.replaceSubrange(18...19, with: [0, 255])
            }
            try expect("32 bits, and this worker for") { $0[4] = 1 }
            try expect("big-endian, and this worker for") { $0[5] = 2 }
            try expect("it is an object file; link it with -shared") { $0[16] = 1 }
            try expect("it is a program; build a library") { $0[16] = 2 }
            try expect("it is not a shared library") { $0[16] = 4 }
        }
    }

    /// The end of the last segment that is loaded.
    private func lastSegmentEnd(_ file: Data) throws -> UInt64 {
        func number(_ index: Int, _ count: Int) -> UInt64 {
            file[index..<index + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }
        let ends = (0..<Int(number(56, 2))).map { Int(number(32, 8)) + $0 * 56 }
            .filter { number($0, 4) == 1 }.map { number($0 + 8, 8) + number($0 + 32, 8) }
        return try #require(ends.max())
    }

    @Test("needs all that the library refers to")
    func undefinedSymbol() async throws {
        try await withTemporaryDirectory { directory in
            try "int nowhere(void); int here(void) { return nowhere(); }"
                .write(toFile: directory + "/a.c", atomically: true, encoding: .utf8)
            try await LibraryBuild.run("cc -fPIC -shared -o a.so a.c", in: directory)
            refuses(.notLoadable, "undefined symbol: nowhere", path: directory + "/a.so")
        }
    }

    @Test("needs the entry, and a table of this version")
    func entries() async throws {
        try await withTemporaryDirectory { directory in
            let probe = directory + "/probe.so"
            try await LibraryBuild.copyProbe(to: probe)
            refuses(.missingEntry, "exports no function 'entry'", path: probe, entry: "entry")
            refuses(.missingEntry, "cannot be the name of a function", path: probe, entry: "")
            refuses(
                .invalidHandler,
                "entry_null of the library \(probe) returned NULL",
                path: probe,
                entry: "entry_null"
            )
            refuses(
                .unsupportedVersion,
                "is built for version 2 of breakwater_handler.h, and this worker has version 1",
                path: probe,
                entry: "entry_version"
            )
            refuses(.invalidHandler, "has a struct_size of 16, and version 1 has 40", path: probe, entry: "entry_small")
            refuses(.invalidHandler, "has NULL for run", path: probe, entry: "entry_without_run")
            // A table with fields that this worker does not know.
            let plugin = try LibraryPlugin(path: probe, entry: "entry_larger")
            try await expect("succeed", in: plugin, endsAs: .succeeded())
            await plugin.stop()
        }
    }

    @Test("refuses settings that are no JSON object, and numbers out of range")
    func settings() async throws {
        try await withTemporaryDirectory { directory in
            let probe = directory + "/probe.so"
            try await LibraryBuild.copyProbe(to: probe)
            for settings in ["", "[]", "{", "1"] {
                #expect(throws: LibraryPluginError.self) { try LibraryPlugin(path: probe, settings: settings) }
            }
            func code(_ make: () throws -> LibraryPlugin) -> LibraryPluginError.Code? {
                #expect(throws: LibraryPluginError.self) { _ = try make() }?.code
            }
            #expect(code { try LibraryPlugin(path: probe, threads: 0) } == .invalidLimit)
            #expect(code { try LibraryPlugin(path: probe, threads: 257) } == .invalidLimit)
            #expect(code { try LibraryPlugin(path: probe, stackBytes: 1000) } == .invalidLimit)
            #expect(code { try LibraryPlugin(path: probe, maxResultBytes: 0) } == .invalidLimit)
        }
    }

    @Test("happens once for each file, also through another path and after the file is replaced")
    func once() async throws {
        try await withTemporaryDirectory { directory in
            let probe = Probe(path: directory + "/probe.so")
            try await LibraryBuild.copyProbe(to: probe.path)
            let link = directory + "/link.so"
            try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: probe.path)
            let first = try LibraryPlugin(path: probe.path)
            try FileManager.default.removeItem(atPath: probe.path)
            try await LibraryBuild.copyProbe(to: probe.path)
            let second = try LibraryPlugin(path: link)
            let third = try LibraryPlugin(path: probe.path)
            for plugin in [first, second, third] {
                try await expect("succeed", in: plugin, endsAs: .succeeded())
                await plugin.stop()
            }
            // All have counted in the same variables.
            #expect(try probe.count("probe_opens") == 3)
            #expect(try probe.count("probe_closes") == 3)
        }
    }
}
