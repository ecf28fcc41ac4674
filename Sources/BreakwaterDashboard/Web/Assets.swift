import Foundation

/// The static files that pages need, embedded in the binary. Their addresses depend on their content, so browsers may
/// cache them forever.
enum Assets {
    struct Asset: Sendable {
        var bytes: [UInt8]
        var type: String
        var link: Link
        /// The part of the address that changes with the content.
        var version: String

        fileprivate init(_ bytes: [UInt8], type: String, _ link: Link) {
            self.bytes = bytes
            self.type = type
            version = String(Secret.code(of: String(decoding: bytes, as: UTF8.self), key: "version").prefix(12))
            self.link = link.with("v", version)
        }
    }

    static let stylesheet = Asset(
        PackageResources.style_css,
        type: "text/css; charset=utf-8",
        Link("/assets/style.css")
    )
    static let script = Asset(
        PackageResources.live_js,
        type: "text/javascript; charset=utf-8",
        Link("/assets/live.js")
    )
    static let icon = Asset(PackageResources.icon_svg, type: "image/svg+xml", Link("/assets/icon.svg"))
}
