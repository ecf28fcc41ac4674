/// Why an endpoint cannot be a handler.
public struct HTTPPluginError: Error, Sendable, Equatable, CustomStringConvertible {
    /// What is wrong.
    public enum Code: Sendable, Equatable {
        /// The URL cannot be read, or is not one of http or https with a host.
        case invalidURL
        /// The URL holds a user or a password.
        case credentialsInURL
        /// A header's name or value is not possible, or the configuration may not set it.
        case invalidHeader
        /// The secret is not a Standard Webhooks key.
        case invalidSecret
        /// The URL leads to a cloud's metadata service, which is not on the allow-list.
        case refusedHost
        /// An entry of the allow-list is neither a host, an address nor a network.
        case invalidAllowance
        /// The file of certificate authorities cannot be read.
        case invalidCAFile
        /// A limit is out of range.
        case invalidLimit
    }

    /// What is wrong.
    public var code: Code
    /// What is wrong and what is allowed, for people. Never holds a secret, nor a URL that may contain one.
    public var message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
