/// A path that ``EndpointServer`` answers.
public struct Endpoint: Sendable {
    /// What it answers with.
    struct Answer {
        var isGood: Bool
        var type = "text/plain; charset=utf-8"
        var text: String
    }

    /// The path, such as `/metrics`.
    public var path: String
    /// What it is for, in a few words.
    public var purpose: String
    let answer: @Sendable () -> Answer
}
