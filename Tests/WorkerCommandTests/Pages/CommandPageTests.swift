import ArgumentParser
import BreakwaterTesting
import Foundation
import Testing

@testable import WorkerCommand

@Suite("The pages about commands and alerts")
struct CommandPageTests {
    /// The commands of `worker`, without those that only that executable has.
    private let commands = RootCommand.configuration.subcommands.map { $0._commandName }

    @Test("list every command with its subcommands, and no other")
    func everyCommand() throws {
        let page = try DocumentationPage("CommandLine")
        let section = try #require(page.sections(level: 2).first { $0.heading == "Commands" })
        var listed: [String: [String]] = [:]
        for cell in section.text.tableRows.compactMap(\.first) {
            for entry in cell.quotedWords {
                let name = String(entry.prefix { $0 != " " })
                let subcommands = entry.firstMatch(of: /\[([a-z][a-z|-]*)\]/)?.1.split(separator: "|") ?? []
                listed[name, default: []] += subcommands.map(String.init)
            }
        }
        #expect(Set(listed.keys).symmetricDifference(commands + ["bench"]) == [])
        for command in RootCommand.configuration.subcommands {
            let own = command.configuration.subcommands.map { $0._commandName }
            #expect(listed[command._commandName]?.sorted() == own.sorted(), "\(command._commandName)")
        }
    }

    @Test("list every exit status, and no other")
    func statuses() throws {
        let page = try DocumentationPage("CommandLine")
        let section = try #require(page.sections(level: 2).first { $0.heading == "Exit status" })
        let listed = section.text.tableRows.compactMap(\.first).compactMap { Int32($0) }
        #expect(listed == [0] + CommandFailure.Status.allCases.map(\.rawValue).sorted())
    }

    @Test("show only commands that the program understands")
    func shownCommands() throws {
        var count = 0
        for page in try DocumentationPage.all() where page.name != "CHANGELOG" {
            for line in commandLines(of: page) {
                let words = self.words(line)
                guard words.count > 1, commands.contains(words[1]) else {
                    #expect(words.count > 1 && ["bench", "--version"].contains(words[1]), "\(page.name): \(line)")
                    continue
                }
                count += 1
                #expect(throws: Never.self, "\(page.name): \(line)") {
                    _ = try RootCommand.parseAsRoot(Array(words.dropFirst()))
                }
            }
        }
        #expect(count > 40)
    }

    /// The lines of a page's blocks of code that call the program, with continued lines joined. Beside output, they begin
    /// with a prompt.
    private func commandLines(of page: DocumentationPage) -> [String] {
        let lines = { (blocks: [String], prompt: String) in
            blocks.flatMap { $0.replacing(/\\\n */, with: " ").split(separator: "\n") }
                .filter { $0.hasPrefix("\(prompt)worker ") }
                .map { String($0.dropFirst(prompt.count)) }
        }
        return lines(page.text.codeBlocks("", "console"), "$ ") + lines(page.text.codeBlocks("sh"), "")
    }

    /// The words of a command, as a shell would split it, up to a redirection, a pipe or a comment.
    private func words(_ line: String) -> [String] {
        var words: [String] = []
        var word = ""
        var isWord = false
        var quote: Character?
        for character in line + " " {
            if let open = quote {
                if character == open { quote = nil } else { word.append(character) }
            } else if character == "'" || character == "\"" {
                quote = character
                isWord = true
            } else if character.isWhitespace {
                if word.contains(/^(?:[0-9]?[<>]|[&|;#])/), !isWord { return words }
                if isWord || !word.isEmpty { words.append(word) }
                word = ""
                isWord = false
            } else {
                word.append(character)
            }
        }
        return words
    }

    @Test("have a runbook for every alert: what it means, what to look at, what to do, and when it is over")
    func runbooks() throws {
        let file = DocumentationPage.repository.appending(path: "deploy/prometheus/breakwater.rules.yml")
        let text = try String(contentsOf: file, encoding: .utf8)
        let alerts = text.matches(of: /- alert: (\S+)/).map { String($0.1) }
        #expect(alerts.count > 10)
        let sections = try DocumentationPage("Runbooks").sections(level: 2).filter { $0.heading != "Overview" }
        #expect(Set(sections.map(\.heading)).symmetricDifference(alerts) == [])
        for section in sections {
            let marks = section.text.matches(of: /(?:^|\n)\*\*(.+?)\*\*/).map { String($0.1) }
            #expect(marks == ["Meaning.", "First look.", "What to do.", "Over when."], "\(section.heading)")
            #expect(!section.text.codeBlocks("sql", "sh").isEmpty, "\(section.heading)")
        }
    }

    @Test(
        "explain every state in which a job may be",
        .enabled(if: TestDatabase.isAvailable, "\(needsDatabase)")
    )
    func states() async throws {
        let definition = try await withTestDatabase { database in
            try await database.text("select pg_get_viewdef('breakwater.job_status'::regclass)")
        }
        // The expression that decides the state is the last one with these words.
        let decision = try #require(definition.components(separatedBy: "'running'::text").last)
        let known = decision.matches(of: /(?:THEN|ELSE)\s+'([a-z_]+)'::text/).map { String($0.1) } + ["running"]
        let page = try DocumentationPage("MyJobDoesNotRun")
        let section = try #require(page.sections(level: 2).first { $0.heading == "States" })
        let listed = section.text.tableRows.compactMap(\.first).dropFirst().flatMap(\.quotedWords)
        #expect(Set(known).count > 8)
        #expect(Set(listed).symmetricDifference(known) == [])
    }
}
