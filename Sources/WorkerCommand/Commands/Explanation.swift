import ArgumentParser
import Foundation

/// Why something is done by hand that others must understand, and by whom: for whoever finds it done.
struct Explanation: ParsableArguments {
    @Option(name: [.customLong("reason"), .customLong("why")], help: "Why, for whoever looks at it next.")
    var reason: String

    @Option(help: "Who does it. Else the user of this machine, else that of the database.")
    var actor: String?

    func validate() throws {
        if reason.isEmpty { throw ValidationError("The reason is empty; say why in a few words.") }
        if actor == "" { throw ValidationError("The actor is empty; say who, or leave --actor out.") }
    }

    /// Who does it; nil for the database's user.
    var who: String? { actor ?? Self.systemUser }

    /// The user that this process runs as; nil when it has no name, as in some containers.
    static var systemUser: String? {
        getpwuid(geteuid()).flatMap { $0.pointee.pw_name }.map { String(cString: $0) }
            ?? ProcessInfo.processInfo.environment["USER"].flatMap { $0.isEmpty ? nil : $0 }
    }
}

/// What the audit log says of something done by hand that explains itself: who did it, and why if they say so.
struct Remark: ParsableArguments {
    @Option(help: "Why, for the audit log.")
    var why: String?

    @Option(help: "Who does it. Else the user of this machine, else that of the database.")
    var actor: String?

    func validate() throws {
        if why == "" { throw ValidationError("--why is empty; say why in a few words, or leave it out.") }
        if actor == "" { throw ValidationError("The actor is empty; say who, or leave --actor out.") }
    }

    /// Who does it; nil for the database's user.
    var who: String? { actor ?? Explanation.systemUser }
}
