import CBreakwaterHandler
import Glibc
import Synchronization

/// The functions of a library that was loaded and checked.
///
/// It is Sendable although C's pointers are not: nothing changes it, the functions stay where they are because a
/// library is never unloaded, and the header requires that any thread may call them.
struct LibraryFunctions: @unchecked Sendable {
    /// The path of the library's file.
    let path: String
    /// The name and version that the library gives itself; nil if it gives none.
    let name: String?
    let open:
        @convention(c) (
            UnsafePointer<breakwater_opening>?, UnsafePointer<breakwater_host>?,
            UnsafeMutablePointer<UnsafeMutableRawPointer?>?
        ) -> Int32
    let run:
        @convention(c) (
            UnsafeMutableRawPointer?, UnsafePointer<breakwater_job>?, UnsafePointer<breakwater_host>?
        ) -> Void
    let close: @convention(c) (UnsafeMutableRawPointer?) -> Void
}

/// The libraries that this process has loaded.
///
/// Each is loaded once and never unloaded: its threads, its thread-local variables and its exit handlers may still need
/// its code. So a changed file takes effect when the worker is started again.
enum LoadedLibrary {
    /// The loader's handles by the paths of the files, as numbers.
    private static let handles = Mutex<[String: UInt]>([:])

    /// Loads a library unless it is loaded already, and checks its table of functions.
    ///
    /// - Parameters:
    ///   - path: The file's path.
    ///   - entry: The name of the function that returns the table.
    static func functions(of path: String, entry: String) throws(LibraryPluginError) -> LibraryFunctions {
        guard !entry.isEmpty, entry.utf8.count <= 1000, !entry.utf8.contains(0) else {
            throw LibraryPluginError(.missingEntry, "\(entry.debugDescription) cannot be the name of a function")
        }
        let file = try LibraryFile(path)
        let handle = try handle(of: file)
        guard let symbol = dlsym(UnsafeMutableRawPointer(bitPattern: handle), entry) else {
            throw LibraryPluginError(
                .missingEntry,
                "the library \(file.path) exports no function '\(entry)'; define it as breakwater_handler.h says, with "
                    + "BREAKWATER_EXPORT (and extern \"C\" in C++)"
            )
        }
        typealias Entry = @convention(c) () -> UnsafePointer<breakwater_handler>?
        // A symbol of this name is a function of this type by the header's contract.
        let table = unsafeBitCast(symbol, to: Entry.self)()
        return try LibraryFunctions(table, of: file.path, entry: entry)
    }

    private static func handle(of file: LibraryFile) throws(LibraryPluginError) -> UInt {
        try handles.withLock { handles throws(LibraryPluginError) in
            if let handle = handles[file.path] { return handle }
            try file.check()
            guard let handle = dlopen(file.path, RTLD_NOW | RTLD_LOCAL) else {
                let problem = dlerror().map { String(cString: $0) } ?? "for an unknown reason"
                throw LibraryPluginError(.notLoadable, "the library \(file.path) cannot be loaded: \(problem)")
            }
            handles[file.path] = UInt(bitPattern: handle)
            return UInt(bitPattern: handle)
        }
    }
}

extension LibraryFunctions {
    /// The version of the interface that this worker has.
    static let version = UInt32(BREAKWATER_ABI)

    /// Checks a table that a library's entry has returned.
    ///
    /// - Parameters:
    ///   - table: The table. It may be larger than this worker knows.
    ///   - path: The path of the library.
    ///   - entry: The name of the entry, for messages.
    init(
        _ table: UnsafePointer<breakwater_handler>?,
        of path: String,
        entry: String
    ) throws(LibraryPluginError) {
        guard let table else {
            throw LibraryPluginError(.invalidHandler, "\(entry) of the library \(path) returned NULL")
        }
        guard table.pointee.abi == Self.version else {
            throw LibraryPluginError(
                .unsupportedVersion,
                "the library \(path) is built for version \(table.pointee.abi) of breakwater_handler.h, and this worker "
                    + "has version \(Self.version); build it with this worker's header"
            )
        }
        let size = table.pointee.struct_size
        guard size >= MemoryLayout<breakwater_handler>.size else {
            throw LibraryPluginError(
                .invalidHandler,
                "the table of the library \(path) has a struct_size of \(size), and version \(Self.version) has "
                    + "\(MemoryLayout<breakwater_handler>.size) bytes; set it to sizeof(breakwater_handler)"
            )
        }
        guard let run = table.pointee.run else {
            throw LibraryPluginError(.invalidHandler, "the table of the library \(path) has NULL for run")
        }
        self.path = path
        self.run = run
        name = table.pointee.name.map { name in
            String(decoding: UnsafeRawBufferPointer(start: name, count: strnlen(name, 200)), as: UTF8.self)
        }
        open = table.pointee.open ?? { _, _, _ in 0 }
        close = table.pointee.close ?? { _ in }
    }
}
