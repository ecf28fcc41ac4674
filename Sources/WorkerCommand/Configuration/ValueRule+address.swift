import BreakwaterEndpoints
import BreakwaterHTTP

extension ValueRule where Value == ListenAddress {
    /// The address that a server listens on.
    static var address: Self {
        Self(
            allowed: "an address with a port, such as 127.0.0.1:9464, [::1]:9464 or :9464 for every address",
            parse: { ListenAddress($0) },
            text: \.description
        )
    }
}

extension ValueRule where Value == String {
    /// The base URL of an OpenTelemetry collector.
    static var collector: Self {
        Self(
            allowed: "an http or https URL without a user and a password, such as http://collector:4318",
            parse: { text in
                do {
                    _ = try ConfiguredEndpoint(text)
                    return text
                } catch let error as HTTPPluginError {
                    throw ValueRefusal("\(error.message); give a URL such as http://collector:4318")
                }
            },
            text: { $0 }
        )
    }
}
