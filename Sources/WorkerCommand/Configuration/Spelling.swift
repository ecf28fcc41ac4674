/// Suggests corrections for misspelt words.
enum Spelling {
    /// The known word nearest to a misspelt one, if any is near enough to suggest.
    ///
    /// A word is near enough if at most a third of its letters are changed, added, omitted or swapped with a neighbour.
    static func suggestion(for word: String, among known: [String]) -> String? {
        // A longer text is no misspelt key, and the time to compare grows with the product of the two lengths.
        guard word.utf8.count <= 200 else { return nil }
        return
            known
            .map { (word: $0, distance: distance(Array(word.lowercased()), Array($0.lowercased()))) }
            .filter { $0.distance <= max(1, $0.word.count / 3) }
            .min { $0.distance < $1.distance }?
            .word
    }

    /// The optimal string alignment distance: Levenshtein's, with swaps of neighbours as one step.
    static func distance(_ first: [Character], _ second: [Character]) -> Int {
        var rows = [Array(0...second.count)]
        for i in 0..<first.count {
            var row = [i + 1]
            for j in 0..<second.count {
                var best = min(rows[i][j + 1] + 1, row[j] + 1, rows[i][j] + (first[i] == second[j] ? 0 : 1))
                if i > 0, j > 0, first[i] == second[j - 1], first[i - 1] == second[j] {
                    best = min(best, rows[i - 1][j - 1] + 1)
                }
                row.append(best)
            }
            rows.append(row)
        }
        return rows[first.count][second.count]
    }
}
