import BreakwaterEndpoints

extension ValueRule where Value == ListenAddress {
    /// Where a server listens.
    static var address: Self {
        Self(
            allowed: "an address with a port, such as 127.0.0.1:9464, [::1]:9464 or :9464 for every address",
            parse: { ListenAddress($0) },
            text: \.description
        )
    }
}
