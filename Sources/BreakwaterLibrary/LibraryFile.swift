import Glibc

/// The file of a shared library, which is checked before the system's loader gets it. The loader's own messages do not
/// say what is wrong with a file for another processor.
struct LibraryFile {
    /// The absolute path without symbolic links.
    let path: String

    /// Finds the file.
    ///
    /// - Parameter text: An absolute path, or one relative to the working directory. It must contain a slash, because
    ///   libraries are not searched for.
    init(_ text: String) throws(LibraryPluginError) {
        guard text.utf8.contains(UInt8(ascii: "/")), !text.utf8.contains(0) else {
            throw LibraryPluginError(
                .invalidPath,
                "\(text.debugDescription) is no path with a slash; libraries are not searched for, so give the whole path, "
                    + "such as /usr/local/lib/resize.so"
            )
        }
        guard let real = realpath(text, nil) else {
            let problem = errno == ENOENT ? "does not exist" : Self.text(of: errno)
            throw LibraryPluginError(.fileNotFound, "the library \(text) cannot be loaded: it \(problem)")
        }
        path = String(cString: real)
        free(real)
    }

    /// Checks that the file is a shared library for this processor.
    func check() throws(LibraryPluginError) {
        var status = stat()
        guard stat(path, &status) == 0 else {
            throw LibraryPluginError(.fileNotFound, "the library \(path) cannot be loaded: it \(Self.text(of: errno))")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw LibraryPluginError(.notLoadable, "the library \(path) cannot be loaded: it is not a file")
        }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw LibraryPluginError(.fileNotFound, "the library \(path) cannot be loaded: it \(Self.text(of: errno))")
        }
        defer { close(descriptor) }
        let header = ELFHeader(Self.read(descriptor, ELFHeader.size, at: 0))
        var problem = header.problem
        if problem == nil, let table = header.segments {
            let segments = Self.read(descriptor, table.count, at: table.lowerBound)
            problem = ELFHeader.problem(withSegments: segments, of: table.count, fileSize: UInt64(status.st_size))
        }
        if let problem {
            throw LibraryPluginError(.notLoadable, "the library \(path) cannot be loaded: it \(problem)")
        }
    }

    /// The bytes at a place, or fewer where the file ends.
    private static func read(_ descriptor: Int32, _ count: Int, at place: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let read = pread(descriptor, &bytes, count, place)
        return Array(bytes.prefix(max(0, read)))
    }

    private static func text(of number: Int32) -> String { "cannot be read: \(String(cString: strerror(number)))" }
}
