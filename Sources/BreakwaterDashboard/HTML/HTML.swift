/// A part of a page that is safe to send, because every text in it was escaped when it was added.
///
/// Markup from data cannot be added: elements and attributes are named in the source code, and texts and values are
/// always escaped. So a payload can never become a part of the page's structure, whichever code writes the page.
struct HTML: Sendable {
    /// The markup.
    fileprivate(set) var markup = ""

    /// An empty part.
    init() {}

    fileprivate init(markup: String) { self.markup = markup }

    /// A text, which is escaped.
    init(_ text: String) { markup = Self.escaped(text) }

    /// The whole document.
    var document: String { "<!doctype html>\n" + markup }

    /// The text with everything escaped that has a meaning to a browser inside an element or a quoted attribute.
    ///
    /// Invisible characters, and those that change the direction of the following text, are shown as symbols or codes,
    /// so that no text can look like another.
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
                // Unicode's symbols for control characters are in the order of the control characters.
                escaped += "&#\(0x2400 + scalar.value);"
            case _ where scalar.isInvisible: escaped += "‹U+\(String(scalar.value, radix: 16, uppercase: true))›"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}

extension Unicode.Scalar {
    /// Whether the scalar is a control character above ASCII's first block, changes the direction of text, has no
    /// width, or is no character.
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
    // These are for SVG pictures.
    case svg, circle, defs, g, line, path, pattern, polygon, polyline, rect, text

    /// Whether the element has no content and no end tag.
    fileprivate var isVoid: Bool {
        switch self {
        case .br, .input, .link, .meta: true
        default: false
        }
    }
}

/// An attribute of an element. Its name is a literal in the source code, and its value is escaped. There are no
/// attributes for scripts and styles.
struct Attribute: Sendable {
    fileprivate var name: String
    /// The value; nil to leave the attribute out.
    fileprivate var value: String?

    /// Any attribute other than links and those that hold scripts or styles.
    static func named(_ name: StaticString, _ value: String?) -> Attribute {
        Attribute(name: "\(name)", value: value)
    }

    /// An attribute without a value, which is present or absent.
    static func flag(_ name: StaticString, _ isSet: Bool = true) -> Attribute {
        Attribute(name: "\(name)", value: isSet ? "" : nil)
    }

    static func `class`(_ value: String?) -> Attribute { Attribute(name: "class", value: value) }
    static func id(_ value: String) -> Attribute { Attribute(name: "id", value: value) }
    static func name(_ value: String) -> Attribute { Attribute(name: "name", value: value) }
    static func value(_ value: String) -> Attribute { Attribute(name: "value", value: value) }
    static func type(_ value: String) -> Attribute { Attribute(name: "type", value: value) }
    static func label(_ value: String) -> Attribute { Attribute(name: "aria-label", value: value) }

    /// The target of a link, which is always a page of the dashboard.
    static func href(_ link: Link) -> Attribute { Attribute(name: "href", value: link.text) }
    /// The target of a form, which is always a page of the dashboard.
    static func action(_ link: Link) -> Attribute { Attribute(name: "action", value: link.text) }
    /// The source of a script, which is always a file of the dashboard.
    static func source(_ link: Link) -> Attribute { Attribute(name: "src", value: link.text) }

    /// A number in a picture, with at most two decimal places.
    static func number(_ name: StaticString, _ value: Double) -> Attribute {
        Attribute(name: "\(name)", value: value.svgText)
    }
}

extension Double {
    /// The number as a coordinate of a picture.
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

/// Concatenates the parts in a closure. Texts are escaped.
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

/// Several parts as one.
func group(@HTMLBuilder _ content: () -> HTML) -> HTML { content() }
