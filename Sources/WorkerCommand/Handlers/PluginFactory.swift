import Breakwater

/// Makes a plugin from its section of the file: the section's key, and the function that reads it.
///
/// To add a plugin, add an element to ``all``.
struct PluginFactory: Sendable {
    /// The key in a handler's section, such as `exec`.
    var name: String
    /// Reads the section and makes the plugin. Returns nil when a problem was reported.
    var make: @Sendable (_ section: ConfigurationSection, _ kind: String) throws -> (any HandlerPlugin)?

    /// The plugins that a file can name. It can also name `swift`, for a handler that the executable registers.
    static let all: [PluginFactory] = [.http, .exec, .stdio, .sql, .library]
}
