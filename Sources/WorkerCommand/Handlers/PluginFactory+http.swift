import Breakwater
import BreakwaterHTTP

extension PluginFactory {
    /// `http` sends one request for each job: to a fixed URL, to one in the payload, or to an endpoint.
    static let http = PluginFactory(name: "http") { section, kind in
        let url = section.readIfPresent("url", .urlOrPath, mask: Secrets.maskingPasswords(inURL:))
        let endpoint = section.readIfPresent("endpoint", .payloadPath)?.segments
        switch (section.has("url"), section.has("endpoint")) {
        case (false, false):
            section.report(
                "there is no url; give one, such as url: \"https://example.com/hook\", or endpoint: $.endpoint"
            )
        case (true, true):
            section.report("endpoint", "there is a url as well; give one of them")
        default: break
        }
        let headers = section.readTexts("headers", name: .headerName)
        let secret = section.readIfPresent("secret", .text("a secret", bytes: 1...1024)) { _ in Secrets.mask }
        if secret != nil, section.has("endpoint") {
            section.report("secret", "each endpoint has secrets of its own, in breakwater.endpoint; leave this one out")
        }
        let format = RequestFormat(section, headers: headers.map(\.name))
        let rule = EndpointRule(section)
        let allow = section.readList("allow", of: .text("a host or a network", bytes: 1...255), default: [])
        let maxResponse = section.read("max_response", .bytes(1...(1 << 30)), default: 64 << 10)
        let caFile = section.readIfPresent("ca_file", .text("a path", bytes: 1...4096))
        guard section.isFine else { return nil }
        let texts = Dictionary(headers.map { ($0.name, $0.value) }) { $1 }
        do {
            if let endpoint {
                return try HTTPPlugin(
                    endpointAt: endpoint,
                    in: section.context.endpoints,
                    rule: rule,
                    headers: texts,
                    allow: allow,
                    format: format,
                    maxResponseBytes: maxResponse,
                    caFile: caFile
                )
            }
            switch url {
            case .fixed(let url):
                return try HTTPPlugin(
                    url: url,
                    headers: texts,
                    secret: secret,
                    allow: allow,
                    format: format,
                    maxResponseBytes: maxResponse,
                    caFile: caFile
                )
            case .path(let path):
                return try HTTPPlugin(
                    urlAt: path,
                    headers: texts,
                    secret: secret,
                    allow: allow,
                    format: format,
                    maxResponseBytes: maxResponse,
                    caFile: caFile
                )
            case nil: return nil
            }
        } catch let error as HTTPPluginError {
            section.report(error.code.key, error.message)
            return nil
        }
    }
}

extension EndpointRule {
    /// Reads the keys that say when an endpoint is disabled.
    fileprivate init(_ section: ConfigurationSection) {
        self.init()
        let keys = ["disable_after", "when_disabled"]
        section.know(keys)
        guard section.has("endpoint") else {
            for key in keys where section.has(key) {
                section.report(key, "this is for endpoints, and there is none; leave it out")
            }
            return
        }
        disableAfter = section.read(
            "disable_after",
            ValueRule.duration(Self.disableAfterLimits).orOff(),
            default: nil
        )
        whenDisabled = section.read("when_disabled", .choice, default: .hold)
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
        case .invalidContentType: "content_type"
        case .invalidStatus: "success"
        case .invalidBody: "body"
        case .invalidPath: "endpoint"
        // No key is at fault, so the message stands at the one that every request needs.
        case .noResources: "url"
        }
    }
}

extension ValueRule where Value == String {
    /// The name of a header.
    static var headerName: Self {
        Self(
            allowed: "the name of a header: letters, digits and any of !#$%&'*+-.^_`|~",
            parse: { $0.wholeMatch(of: /[A-Za-z0-9!#$%&'*+.^_`|~-]+/) == nil ? nil : $0 },
            text: { $0 }
        )
    }

    /// A URL whose beginning is that of an HTTP URL with a host. ``HTTPPlugin`` validates the rest.
    static var url: Self {
        Self(
            allowed: "an http or https URL with a host, such as https://example.com/hook",
            parse: { $0.wholeMatch(of: /(?is)https?:\/\/[^\/?#].*/) == nil ? nil : $0 },
            text: { $0 }
        )
    }
}

/// The value of `http.url`: a URL, or the path of one in the payload.
enum URLSetting {
    case fixed(String)
    case path([String])
}

extension ValueRule where Value == URLSetting {
    static var urlOrPath: Self {
        Self(
            allowed: "an http or https URL with a host, such as https://example.com/hook, or a path such as $.url",
            parse: { text in
                if text.hasPrefix("$") { return .path(try JSONPath(text: text).segments) }
                return try ValueRule<String>.url.parse(text).map { .fixed($0) }
            },
            text: { setting in
                switch setting {
                case .fixed(let url): url
                case .path(let segments): JSONPath(segments: segments).text
                }
            }
        )
    }
}
