package import Logging

extension Logger {
    /// Says that only the beginning of a result is kept, because the handler gave more than the plugin keeps.
    ///
    /// - Parameters:
    ///   - kept: How many bytes are kept.
    ///   - size: How many bytes the handler gave; nil if that is unknown.
    package func resultWasCut(kept: Int, of size: Int? = nil) {
        var metadata: Logger.Metadata = ["kept_bytes": .stringConvertible(kept)]
        if let size { metadata["result_bytes"] = .stringConvertible(size) }
        warning("The result was cut: the handler gave more than is kept", metadata: metadata)
    }
}
