import Foundation

/// The arguments of this process as other accounts of the machine see them in `ps` and `/proc`.
enum ProcessTitle {
    /// Overwrites the passwords in the process's arguments with `*` in place.
    ///
    /// The passwords are visible until this has run. A password is safer in the environment, in a service file or in
    /// libpq's password file.
    static func maskPasswords() {
        for index in 1..<max(1, Int(CommandLine.argc)) {
            guard let argument = CommandLine.unsafeArgv[index] else { continue }
            mask(argument)
        }
    }

    /// Overwrites the passwords in one argument, which keeps its length.
    static func mask(_ argument: UnsafeMutablePointer<CChar>) {
        let length = strlen(argument)
        let bytes = UnsafeMutableRawBufferPointer(start: argument, count: length)
        let text = String(decoding: bytes, as: UTF8.self)
        // Swift replaces invalid UTF-8 by longer sequences. The offsets below would then be wrong.
        guard text.utf8.count == length else { return }
        let masked = Secrets.maskingPasswords(inConninfo: text.droppingOptionName)
        let start = length - text.droppingOptionName.utf8.count
        guard masked.utf8.count != length - start || !masked.utf8.elementsEqual(bytes[start...]) else { return }
        // The common prefix and the common suffix of both texts are no secret. The part between them is.
        let prefix = zip(masked.utf8, bytes[start...]).prefix { $0 == $1 }.count
        let suffix = zip(masked.utf8.reversed(), bytes[start...].reversed()).prefix { $0 == $1 }.count
        let secret = start + prefix..<max(start + prefix, length - suffix)
        for index in secret { bytes[index] = UInt8(ascii: "*") }
    }

    /// Whether every argument is valid UTF-8. Swift replaces invalid bytes, so a different text than the given one
    /// would be enqueued.
    static var argumentsAreText: Bool {
        (0..<Int(CommandLine.argc)).allSatisfy { index in
            CommandLine.unsafeArgv[index].map { String(validatingCString: $0) != nil } ?? true
        }
    }
}

extension String {
    /// The part after `--name=`, or the text itself if it is no such option.
    fileprivate var droppingOptionName: String {
        guard hasPrefix("--"), let equals = firstIndex(of: "=") else { return self }
        return String(self[index(after: equals)...])
    }
}
