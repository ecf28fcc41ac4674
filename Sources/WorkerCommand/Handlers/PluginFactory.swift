import Breakwater

/// How the file's section of one plugin becomes the plugin: the key it stands under, and what reads it.
///
/// Another plugin joins by one more element of ``all``.
struct PluginFactory: Sendable {
    /// The key in a handler's section, such as `exec`.
    var name: String
    /// Reads the section and makes the plugin; nil when a problem was reported.
    var make: @Sendable (_ section: ConfigurationSection, _ kind: String) throws -> (any HandlerPlugin)?

    /// The plugins that a file can name, beside `swift`, which is what the executable itself registers.
    static let all: [PluginFactory] = [.http, .exec]
}
