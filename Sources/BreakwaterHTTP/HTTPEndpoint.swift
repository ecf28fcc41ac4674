import CLibcurl

/// The URL of a handler's requests, parsed by the same library that sends them.
struct HTTPEndpoint: Sendable {
    /// The whole URL, normalised. It may hold secrets in its query.
    let url: String
    /// The name or address, in lower case, without the brackets of IPv6.
    let host: String
    /// The query, if there is one.
    let query: String?
    /// The URL for people: `scheme://host:port/path`, without the query.
    let display: String

    /// Reads a URL.
    ///
    /// - Throws: ``HTTPPluginError`` when it is not an http or https URL with a host of ASCII characters, or has
    ///   credentials, a fragment or the port 0.
    init(_ text: String) throws {
        guard !text.utf8.contains(where: { $0 <= 0x20 || $0 == 0x7F }) else {
            throw HTTPPluginError(.invalidURL, "the url contains a space or a control character")
        }
        guard !text.utf8.contains(UInt8(ascii: "#")) else {
            throw HTTPPluginError(
                .invalidURL,
                "the url has a fragment, the part from '#' on, which is never sent: leave it out, or write %23 if the '#' "
                    + "belongs to the path or the query"
            )
        }
        guard let handle = curl_url() else { throw HTTPPluginError(.invalidURL, "out of memory") }
        defer { curl_url_cleanup(handle) }
        func part(_ part: CURLUPart, _ flags: Int32 = 0) -> String? {
            var value: UnsafeMutablePointer<CChar>?
            guard curl_url_get(handle, part, &value, UInt32(flags)) == CURLUE_OK, let value else { return nil }
            defer { curl_free(value) }
            return String(cString: value)
        }

        let result = curl_url_set(handle, CURLUPART_URL, text, UInt32(CURLU_NON_SUPPORT_SCHEME))
        guard result == CURLUE_OK else {
            let reason = String(cString: curl_url_strerror(result))
            throw HTTPPluginError(.invalidURL, "the url cannot be read (\(reason)); write it as https://host/path")
        }
        guard part(CURLUPART_USER) == nil, part(CURLUPART_PASSWORD) == nil else {
            throw HTTPPluginError(
                .credentialsInURL,
                "the url contains a user or a password; send them in a header, such as Authorization, instead"
            )
        }
        guard let scheme = part(CURLUPART_SCHEME), scheme == "http" || scheme == "https" else {
            throw HTTPPluginError(
                .invalidURL,
                "the url's scheme is '\(part(CURLUPART_SCHEME) ?? "")': only http and https are allowed"
            )
        }
        // curl reads "http:///a" as "http://a".
        guard text.lowercased().hasPrefix("\(scheme)://"), text.dropFirst(scheme.count + 3).first != "/" else {
            throw HTTPPluginError(.invalidURL, "the url has no host; write it as https://host/path")
        }
        guard let bracketed = part(CURLUPART_HOST), !bracketed.isEmpty,
            let port = part(CURLUPART_PORT, CURLU_DEFAULT_PORT), let url = part(CURLUPART_URL)
        else { throw HTTPPluginError(.invalidURL, "the url has no host; write it as https://host/path") }
        guard bracketed.utf8.allSatisfy({ $0 < 0x80 }) else {
            throw HTTPPluginError(
                .invalidURL,
                "the url's host '\(bracketed)' has characters outside ASCII: write its international labels in their ASCII "
                    + "form, which begins with xn--"
            )
        }
        guard port != "0" else {
            throw HTTPPluginError(.invalidURL, "the url's port is 0, and no server can listen there: give 1 to 65535")
        }
        self.url = url
        host = bracketed.trimmingBrackets.lowercased()
        query = part(CURLUPART_QUERY)
        display = "\(scheme)://\(bracketed):\(port)\(part(CURLUPART_PATH) ?? "/")"
    }
}

extension String {
    fileprivate var trimmingBrackets: String {
        hasPrefix("[") && hasSuffix("]") ? String(dropFirst().dropLast()) : self
    }
}
