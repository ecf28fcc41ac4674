import Foundation
import Testing

@testable import Breakwater

@Suite("The page about plugins") struct HandlerPluginsPageTests {
    private let folder = URL(filePath: #filePath).deletingLastPathComponent()

    private func page() throws -> String {
        let page = folder.appending(path: "../../../Sources/Breakwater/Breakwater.docc/HandlerPlugins.md")
        return try String(contentsOf: page, encoding: .utf8)
    }

    @Test("shows an example that is compiled and run here", arguments: ["SpoolPlugin.swift", "SpoolTests.swift"])
    func example(file: String) throws {
        let source = try String(contentsOf: folder.appending(path: file), encoding: .utf8)
        #expect(try page().contains("```swift\n\(source)```\n"))
    }

    @Test("lists every field that a handler gets")
    func fields() throws {
        let page = try page()
        for field in JobField.allCases { #expect(page.contains("`\(field.rawValue)`"), "\(field) is missing") }
    }

    @Test("lists every scenario of the suite")
    func scenarios() throws {
        let source = try String(
            contentsOf: folder.appending(
                path: "../../../Sources/BreakwaterTesting/Conformance/PluginConformance+Scenario.swift"
            ),
            encoding: .utf8
        )
        let page = try page()
        let names = source.matches(of: /public static func ([a-zA-Z]+)\(/).map { String($0.1) }
        #expect(names.count > 10)
        for name in names { #expect(page.contains("`\(name)`"), "\(name) is missing") }
    }
}
