import ArgumentParser
import Foundation

/// The options of a manual change that must be explained to other operators: the reason, and who makes the change.
struct Explanation: ParsableArguments {
    @Option(help: "Why, for the people who read it next.")
    var reason: String

    @Option(help: "Who does it. Else the user of this machine, else that of the database.")
    var actor: String?

    func validate() throws {
        if reason.isEmpty { throw ValidationError("The reason is empty; say why in a few words.") }
        if actor == "" { throw ValidationError("The actor is empty; say who, or leave --actor out.") }
    }

    /// Who makes the change; nil for the database's user.
    var who: String? { actor ?? Self.systemUser }

    /// The user that this process runs as; nil if the user has no name, as in some containers.
    static var systemUser: String? {
        getpwuid(geteuid()).flatMap { $0.pointee.pw_name }.map { String(cString: $0) }
            ?? ProcessInfo.processInfo.environment["USER"].flatMap { $0.isEmpty ? nil : $0 }
    }
}

/// The options of a manual change that needs no explanation. The audit log gets who makes the change, and the reason if
/// there is one.
struct Remark: ParsableArguments {
    @Option(help: "Why, for the audit log.")
    var reason: String?

    @Option(help: "Who does it. Else the user of this machine, else that of the database.")
    var actor: String?

    func validate() throws {
        if reason == "" { throw ValidationError("--reason is empty; say why in a few words, or leave it out.") }
        if actor == "" { throw ValidationError("The actor is empty; say who, or leave --actor out.") }
    }

    /// Who makes the change; nil for the database's user.
    var who: String? { actor ?? Explanation.systemUser }
}
