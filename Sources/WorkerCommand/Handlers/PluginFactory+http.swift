import Breakwater
import BreakwaterHTTP

extension PluginFactory {
    /// `http` sends one POST for each job.
    static let http = PluginFactory(name: "http") { section, kind in
        let headerName = ValueRule<String>(
            allowed: "the name of a header: letters, digits and any of !#$%&'*+-.^_`|~",
            parse: { $0.wholeMatch(of: /[A-Za-z0-9!#$%&'*+.^_`|~-]+/) == nil ? nil : $0 },
            text: { $0 }
        )
        let url = section.readIfPresent("url", .url, mask: Secrets.maskingPasswords(inURL:))
        if !section.has("url") {
            section.report("there is no url; give one, such as url: \"https://example.com/hook\"")
        }
        let headers = section.readTexts("headers", name: headerName)
        let secret = section.readIfPresent("secret", .text("a secret", bytes: 1...1024)) { _ in Secrets.mask }
        let allow = section.readList("allow", of: .text("a host or a network", bytes: 1...255), default: [])
        let maxResponse = section.read("max_response", .bytes(1...(1 << 30)), default: 64 << 10)
        let caFile = section.readIfPresent("ca_file", .text("a path", bytes: 1...4096))
        guard section.isFine, let url else { return nil }
        do {
            return try HTTPPlugin(
                url: url,
                headers: Dictionary(headers.map { ($0.name, $0.value) }) { $1 },
                secret: secret,
                allow: allow,
                maxResponseBytes: maxResponse,
                caFile: caFile
            )
        } catch let error as HTTPPluginError {
            section.report(error.code.key, error.message)
            return nil
        }
    }
}

extension HTTPPluginError.Code {
    /// The key whose value is at fault.
    fileprivate var key: String {
        switch self {
        case .invalidURL, .credentialsInURL, .refusedHost: "url"
        case .invalidHeader: "headers"
        case .invalidSecret: "secret"
        case .invalidAllowance: "allow"
        case .invalidCAFile: "ca_file"
        case .invalidLimit: "max_response"
        }
    }
}

extension ValueRule where Value == String {
    /// A URL whose beginning is that of an HTTP URL with a host. ``HTTPPlugin`` validates the rest.
    static var url: Self {
        Self(
            allowed: "an http or https URL with a host, such as https://example.com/hook",
            parse: { $0.wholeMatch(of: /(?is)https?:\/\/[^\/?#].*/) == nil ? nil : $0 },
            text: { $0 }
        )
    }
}
