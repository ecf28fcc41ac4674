/// A path that ``EndpointServer`` serves.
public struct Endpoint: Sendable {
    /// The answer to a request.
    struct Answer {
        var isGood: Bool
        var type = "text/plain; charset=utf-8"
        var text: String
    }

    /// The path, such as `/metrics`.
    public var path: String
    /// The purpose of the path, in a few words.
    public var purpose: String
    let answer: @Sendable () -> Answer
}
