/// The reason why a command failed: a message for people, and an exit status for scripts.
package struct CommandFailure: Error, Equatable, CustomStringConvertible {
    /// The exit status of the process. The numbers are those of sysexits.h where it has one.
    package enum Status: Int32, Sendable, CaseIterable {
        /// The request is impossible, for example because there is no such id or circuit, or because a unique key is
        /// taken.
        case refused = 1
        /// The arguments are wrong (`EX_USAGE`).
        case usage = 64
        /// The database cannot be reached, or the connection was lost (`EX_UNAVAILABLE`).
        case unavailable = 69
        /// A fault in this program (`EX_SOFTWARE`).
        case unexpected = 70
        /// The command's output could not be written (`EX_IOERR`).
        case output = 74
        /// The database's user lacks a privilege (`EX_NOPERM`).
        case noPermission = 77
        /// The configuration is invalid, or the schema is missing or of another version (`EX_CONFIG`).
        case configuration = 78
        /// The command was interrupted, and printed how to continue (128 plus SIGINT's number).
        case interrupted = 130
    }

    var status: Status
    /// What failed, where, and what to do.
    var message: String

    package init(_ status: Status, _ message: String) {
        self.status = status
        self.message = message
    }

    package var description: String { message }

    /// The section of the help that lists the statuses.
    static let help = """
        EXIT STATUS:
          0   done
          1   what was asked could not be, such as an id that is not there
          64  the arguments are wrong
          69  the database cannot be reached
          70  a fault in this program
          74  its answer could not be written to standard output
          77  the database's user lacks a privilege
          78  the configuration is wrong, or the schema is missing or of another version
          130 it was interrupted, and said where it stopped and how to go on
        """
}
