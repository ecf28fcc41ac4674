/// Why a command did not do what was asked: one message for people, and the status that scripts see.
package struct CommandFailure: Error, Equatable, CustomStringConvertible {
    /// What the process ends with. The numbers are those of sysexits.h, as far as it has one.
    package enum Status: Int32, Sendable, CaseIterable {
        /// What was asked could not be: no such id, no such circuit, a unique key that is taken.
        case refused = 1
        /// The arguments are wrong (`EX_USAGE`).
        case usage = 64
        /// The database cannot be reached, or went away (`EX_UNAVAILABLE`).
        case unavailable = 69
        /// A fault in this program (`EX_SOFTWARE`).
        case unexpected = 70
        /// What the command printed could not be written (`EX_IOERR`).
        case output = 74
        /// The database's user lacks a privilege (`EX_NOPERM`).
        case noPermission = 77
        /// The configuration is wrong, or the schema is not there or of another version (`EX_CONFIG`).
        case configuration = 78
        /// It was interrupted, and said how to go on (128 and SIGINT's number).
        case interrupted = 130
    }

    var status: Status
    /// What was wrong, where, and what to do.
    var message: String

    package init(_ status: Status, _ message: String) {
        self.status = status
        self.message = message
    }

    package var description: String { message }

    /// The statuses as a part of the help.
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
