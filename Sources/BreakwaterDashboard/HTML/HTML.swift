/// A piece of a page that is safe to send: whatever came in as text was escaped on the way in.
///
/// There is no way in for markup from outside: elements and attributes are named in the source, texts and values are
/// always escaped. So a payload can never become a part of the page's structure, no matter which code writes the page.
struct HTML: Sendable {
    /// The markup.
    fileprivate(set) var markup = ""

    /// Nothing.
    init() {}

    fileprivate init(markup: String) { self.markup = markup }

    /// A text.
    init(_ text: String) { markup = Self.escaped(text) }

    /// The whole document.
    var document: String { "<!doctype html>\n" + markup }

    /// A text in which everything with a meaning to a browser is escaped, inside an element or a quoted attribute.
    ///
    /// Invisible characters, and those that change the direction of what follows, are shown as symbols or codes: a text
    /// must not look like another.
    static func escaped(_ text: String) -> String {
        var escaped = ""
        escaped.reserveCapacity(text.utf8.count + text.utf8.count / 8)
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": escaped += "&amp;"
            case "<": escaped += "&lt;"
            case ">": escaped += "&gt;"
            case "\"": escaped += "&quot;"
            case "'": escaped += "&#39;"
            case "`": escaped += "&#96;"
            case "\t", "\n", "\r": escaped.unicodeScalars.append(scalar)
            case _ where scalar.value < 0x20:
                // The pictures of control characters stand in their order.
                escaped += "&#\(0x2400 + scalar.value);"
            case _ where scalar.isInvisible: escaped += "‹U+\(String(scalar.value, radix: 16, uppercase: true))›"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}

extension Unicode.Scalar {
    /// Whether it is a control character beyond ASCII's, changes the direction of text, has no width, or is no
    /// character.
    fileprivate var isInvisible: Bool {
        switch value {
        case 0x7F...0x9F, 0xAD, 0x61C, 0x180E, 0x200B...0x200F, 0x2028...0x202E, 0x2060...0x206F, 0xFEFF,
            0xFFF9...0xFFFB,
            0xE0000...0xE0FFF:
            true
        default: false
        }
    }
}

/// The elements that pages are made of.
enum Tag: String {
    case a, abbr, article, aside, body, br, button, caption, code, dd, details, div, dl, dt, fieldset, footer, form, h1
    case h2, h3, head, header, html, input, label, legend, li, link, main, meta, nav, ol, option, p, pre, script,
        section
    case select, small, span, strong, summary, table, tbody, td, textarea, th, thead, time, title, tr, ul
    // In pictures.
    case svg, circle, defs, g, line, path, pattern, polygon, polyline, rect, text

    /// Whether it has no content and no end.
    fileprivate var isVoid: Bool {
        switch self {
        case .br, .input, .link, .meta: true
        default: false
        }
    }
}

/// An attribute of an element. Its name stands in the source; its value is escaped. There are none for scripts and
/// styles.
struct Attribute: Sendable {
    fileprivate var name: String
    /// Nil: the attribute is left out.
    fileprivate var value: String?

    /// Any attribute but links and those that hold scripts or styles.
    static func named(_ name: StaticString, _ value: String?) -> Attribute {
        Attribute(name: "\(name)", value: value)
    }

    /// One that is there or not.
    static func flag(_ name: StaticString, _ isSet: Bool = true) -> Attribute {
        Attribute(name: "\(name)", value: isSet ? "" : nil)
    }

    static func `class`(_ value: String?) -> Attribute { Attribute(name: "class", value: value) }
    static func id(_ value: String) -> Attribute { Attribute(name: "id", value: value) }
    static func name(_ value: String) -> Attribute { Attribute(name: "name", value: value) }
    static func value(_ value: String) -> Attribute { Attribute(name: "value", value: value) }
    static func type(_ value: String) -> Attribute { Attribute(name: "type", value: value) }
    static func label(_ value: String) -> Attribute { Attribute(name: "aria-label", value: value) }

    /// Where a link leads: always a page of the dashboard.
    static func href(_ link: Link) -> Attribute { Attribute(name: "href", value: link.text) }
    /// Where a form goes: likewise.
    static func action(_ link: Link) -> Attribute { Attribute(name: "action", value: link.text) }
    /// Where a script comes from: likewise.
    static func source(_ link: Link) -> Attribute { Attribute(name: "src", value: link.text) }

    /// A number of a picture, with at most two digits behind the point.
    static func number(_ name: StaticString, _ value: Double) -> Attribute {
        Attribute(name: "\(name)", value: value.svgText)
    }
}

extension Double {
    /// As a picture's coordinates are written.
    var svgText: String {
        let hundredths = (self * 100).rounded()
        guard hundredths.isFinite, abs(hundredths) < 1e12 else { return "0" }
        let whole = Int(hundredths)
        if whole % 100 == 0 { return "\(whole / 100)" }
        let sign = whole < 0 ? "-" : ""
        let rest = abs(whole) % 100
        return "\(sign)\(abs(whole) / 100).\(rest < 10 ? "0" : "")\(rest)"
    }
}

/// An element with its content.
func el(_ tag: Tag, _ attributes: Attribute..., @HTMLBuilder content: () -> HTML) -> HTML {
    element(tag, attributes, content())
}

/// An element with a text, or without content.
func el(_ tag: Tag, _ attributes: Attribute..., text: String = "") -> HTML {
    element(tag, attributes, HTML(text))
}

/// An element.
func element(_ tag: Tag, _ attributes: [Attribute], _ content: HTML) -> HTML {
    var markup = "<\(tag.rawValue)"
    for attribute in attributes {
        guard let value = attribute.value else { continue }
        markup += " \(attribute.name)=\"\(HTML.escaped(value))\""
    }
    markup += ">"
    guard !tag.isVoid else { return HTML(markup: markup) }
    return HTML(markup: markup + content.markup + "</\(tag.rawValue)>")
}

/// Puts what stands in a closure one after the other. Texts are escaped.
@resultBuilder
enum HTMLBuilder {
    static func buildExpression(_ html: HTML) -> HTML { html }
    static func buildExpression(_ html: HTML?) -> HTML { html ?? HTML() }
    static func buildExpression(_ text: String) -> HTML { HTML(text) }
    static func buildBlock(_ parts: HTML...) -> HTML { buildArray(parts) }
    static func buildOptional(_ part: HTML?) -> HTML { part ?? HTML() }
    static func buildEither(first: HTML) -> HTML { first }
    static func buildEither(second: HTML) -> HTML { second }
    static func buildArray(_ parts: [HTML]) -> HTML { HTML(markup: parts.reduce(into: "") { $0 += $1.markup }) }
}

/// Several pieces as one.
func group(@HTMLBuilder _ content: () -> HTML) -> HTML { content() }
