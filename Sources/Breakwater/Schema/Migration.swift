/// One step of the schema's history: a folder of `sql/`, applied whole in one transaction.
struct Migration: Sendable {
    /// One topic of a migration.
    struct File: Sendable {
        var name: String
        var sql: String
    }

    var version: Int
    var name: String
    var files: [File]
}
