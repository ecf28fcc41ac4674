import Foundation
import Testing

@testable import BreakwaterDashboard

@Suite("The page about the dashboard")
struct PageTests {
    @Test("lists every address, and no other")
    func routes() throws {
        let root = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../../")
        let page = try String(
            contentsOf: root.appending(path: "Sources/Breakwater/Breakwater.docc/Dashboard.md"),
            encoding: .utf8
        )
        let told = page.matches(of: /\| `(GET|POST) ([^`]+)` \|/).map { "\($0.1) \($0.2)" }
        let there = Route.all.map { "\($0.method.rawValue) \($0.pattern.replacing("#", with: "ID"))" }
        #expect(Set(told).symmetricDifference(there) == [])
        #expect(Set(told).count == told.count, "one is told of twice")
    }
}
