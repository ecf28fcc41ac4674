/// A kind of job and the type of its payload, declared once for those who enqueue jobs and for the handler that runs them.
///
/// ```swift
/// extension JobKind where Payload == SendEmail.Payload {
///     static var sendEmail: Self { "email.send" }
/// }
///
/// try await client.enqueue(.sendEmail, SendEmail.Payload(to: "ada@example.org"))
/// HandlerRegistration(kind: .sendEmail, handler: SendEmail())
/// ```
///
/// A payload of another type, or a handler whose `Payload` is another type, does not compile.
public struct JobKind<Payload: Sendable>: Sendable, Hashable, ExpressibleByStringLiteral, CustomStringConvertible {
    /// The kind's name in the database and in configuration files, such as `email.send`: 1 to 200 bytes, without control
    /// characters. It is checked when a job is enqueued and when a worker starts.
    public var name: String

    /// - Parameter name: The kind's name in the database.
    public init(_ name: String) { self.name = name }

    /// Makes a kind from a literal.
    public init(stringLiteral name: String) { self.name = name }

    /// The name.
    public var description: String { name }
}
