import Foundation

/// What other accounts of this machine see of this process, in `ps` and in `/proc`: its arguments.
enum ProcessTitle {
    /// Overwrites the passwords in the process's arguments with `*`, where they are.
    ///
    /// Whoever looks before this has run sees them: a password is safer in the environment, in a service file or in
    /// libpq's password file.
    static func maskPasswords() {
        for index in 1..<max(1, Int(CommandLine.argc)) {
            guard let argument = CommandLine.unsafeArgv[index] else { continue }
            mask(argument)
        }
    }

    /// Overwrites the passwords of one argument, which keeps its length.
    static func mask(_ argument: UnsafeMutablePointer<CChar>) {
        let length = strlen(argument)
        let bytes = UnsafeMutableRawBufferPointer(start: argument, count: length)
        let text = String(decoding: bytes, as: UTF8.self)
        // A broken character would be longer when repaired, and the places below those of another text.
        guard text.utf8.count == length else { return }
        let masked = Secrets.maskingPasswords(inConninfo: text.droppingOptionName)
        let start = length - text.droppingOptionName.utf8.count
        guard masked.utf8.count != length - start || !masked.utf8.elementsEqual(bytes[start...]) else { return }
        // What both have at their beginning and at their end is no secret; what lies between is.
        let prefix = zip(masked.utf8, bytes[start...]).prefix { $0 == $1 }.count
        let suffix = zip(masked.utf8.reversed(), bytes[start...].reversed()).prefix { $0 == $1 }.count
        let secret = start + prefix..<max(start + prefix, length - suffix)
        for index in secret { bytes[index] = UInt8(ascii: "*") }
    }

    /// Whether every argument is UTF-8; Swift repairs what is not, and would enqueue another text than was given.
    static var argumentsAreText: Bool {
        (0..<Int(CommandLine.argc)).allSatisfy { index in
            CommandLine.unsafeArgv[index].map { String(validatingCString: $0) != nil } ?? true
        }
    }
}

extension String {
    /// What follows `--name=`; the text itself when it is no such option.
    fileprivate var droppingOptionName: String {
        guard hasPrefix("--"), let equals = firstIndex(of: "=") else { return self }
        return String(self[index(after: equals)...])
    }
}
