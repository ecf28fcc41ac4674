import Breakwater
import BreakwaterExec
import BreakwaterHTTP
import BreakwaterNotify

extension NotificationTarget {
    /// Reads `notify`, and reports what is wrong.
    ///
    /// - Returns: The target; nil if the file has no such section.
    static func read(_ root: ConfigurationSection) -> NotificationTarget? {
        let section = root.readSection("notify")
        let url = section.readIfPresent("url", .url, mask: Secrets.maskingPasswords(inURL:))
        let secret = section.readIfPresent("secret", .text("a secret", bytes: 1...1024)) { _ in Secrets.mask }
        let argument = ValueRule<String>(
            allowed: "a text without NUL",
            parse: { $0.utf8.contains(0) ? nil : $0 },
            text: { $0 }
        )
        let command = section.has("command") ? section.readList("command", of: argument, default: []) : []
        section.know(["command"])
        guard root.has("notify") else { return nil }
        root.record(section, as: "notify")
        guard section.isFine else { return nil }
        switch (section.has("url"), section.has("command")) {
        case (false, false):
            section.report(
                "say who is told: a url, such as \"https://example.com/hook\", or a command, such as [page, ops]"
            )
        case (true, true):
            section.report("command", "there is a url as well; give one of them")
        case (true, false):
            return webhook(url, secret, section)
        case (false, true):
            if section.has("secret") {
                section.report("secret", "a command gets its message on standard input, unsigned; leave the secret out")
            }
            return program(command, section)
        }
        return nil
    }

    private static func webhook(_ url: String?, _ secret: String?, _ section: ConfigurationSection)
        -> NotificationTarget?
    {
        guard let url else { return nil }
        do {
            return .webhook(try WebhookEndpoint(url: url, secret: secret))
        } catch let error as HTTPPluginError {
            section.report(error.code == .invalidSecret ? "secret" : "url", error.message)
        } catch {
            section.report("url", "\(error)")
        }
        return nil
    }

    private static func program(_ command: [String], _ section: ConfigurationSection) -> NotificationTarget? {
        guard let name = command.first, !name.isEmpty else {
            section.report("command", "there is no program to run; give a list that begins with one: [page, ops]")
            return nil
        }
        do {
            return .command(try ExecPlugin(command: command), name: name)
        } catch let error as ExecPluginError {
            section.report("command", error.message)
        } catch {
            section.report("command", "\(error)")
        }
        return nil
    }
}
