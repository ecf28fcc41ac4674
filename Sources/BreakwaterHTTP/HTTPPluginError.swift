/// The error for invalid settings of an endpoint.
public struct HTTPPluginError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of problem.
    public enum Code: Sendable, Equatable {
        /// The URL cannot be parsed, or is not an http or https URL with a host.
        case invalidURL
        /// The URL holds a user or a password.
        case credentialsInURL
        /// A header's name or value is invalid, or the header must not be configured.
        case invalidHeader
        /// The secret is not a Standard Webhooks key.
        case invalidSecret
        /// The URL's host is a cloud's metadata service that is not on the allow-list.
        case refusedHost
        /// An entry of the allow-list is neither a host, an address nor a network.
        case invalidAllowance
        /// The file of certificate authorities cannot be read.
        case invalidCAFile
        /// A limit is out of range.
        case invalidLimit
        /// The content type is not one.
        case invalidContentType
        /// A status that counts as a success is out of range.
        case invalidStatus
        /// The method sends no body, but a body is given.
        case invalidBody
        /// A path into the payload is empty.
        case invalidPath
        /// The process has no descriptor, thread or memory left for requests.
        case noResources
    }

    /// The kind of problem.
    public var code: Code
    /// The problem and what is allowed, for people. It never contains a secret, nor a URL that may contain one.
    public var message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
