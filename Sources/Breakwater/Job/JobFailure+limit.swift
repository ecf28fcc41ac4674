import Foundation

extension JobFailure {
    /// A failure for ``JobOutcome/unable(_:)`` if an error number means that this process or its machine lacks a
    /// resource.
    ///
    /// | error number | exhausted resource |
    /// |---|---|
    /// | `EMFILE` | this process's open files (`ulimit -n`) |
    /// | `ENFILE` | the machine's open files (`fs.file-max`) |
    /// | `EAGAIN` | processes and threads (`ulimit -u`, `pids.max`): only if `fork` or `pthread_create` set it |
    /// | `ENOMEM` | memory (`ulimit -v`) |
    /// | `ENOBUFS` | the buffers of sockets |
    /// | `EADDRNOTAVAIL` | local ports (`net.ipv4.ip_local_port_range`): only if `connect` or `bind` set it |
    ///
    /// The name is `worker.` and the symbol of the number, such as `worker.EMFILE`. The message names the limit with
    /// its current value.
    ///
    /// ```swift
    /// let socket = socket(AF_INET, SOCK_STREAM, 0)
    /// if socket < 0, let failure = JobFailure(limit: errno, while: "opening a socket") { return .unable(failure) }
    /// ```
    ///
    /// - Parameters:
    ///   - number: The error number, such as `EMFILE`.
    ///   - action: What failed, as the beginning of a sentence: `opening a socket`.
    public init?(limit number: Int32, while action: String) {
        guard let (symbol, limit) = ProcessLimits.exhausted(number) else { return nil }
        self.init("worker.\(symbol)", "\(action) failed: \(limit)")
    }

    /// A failure if a thrown error certainly means that this process lacks a resource. It examines Foundation's POSIX
    /// errors, also as underlying errors.
    ///
    /// `EAGAIN` is not certain, because it can also mean that a socket has nothing to read.
    init?(limitIn error: any Error) {
        var error = error
        // The POSIX error may be the underlying error of others, such as "the file cannot be read".
        for _ in 0..<8 {
            if let number = (error as? POSIXError)?.code.rawValue {
                guard [EMFILE, ENFILE, ENOMEM, ENOBUFS].contains(number) else { return nil }
                self.init(limit: number, while: "running the job")
                return
            }
            guard let below = (error as? CocoaError)?.underlying else { return nil }
            error = below
        }
        return nil
    }
}
