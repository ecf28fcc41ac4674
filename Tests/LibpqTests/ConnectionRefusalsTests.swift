import Testing

@testable import Libpq

@Suite("libpq's message when no server accepted the connection")
struct ConnectionRefusalsTests {
    private static let refused = """
        connection to server at "127.0.0.1", port 1 failed: Connection refused
        \tIs the server running on that host and accepting TCP/IP connections?

        """
    private static let starting = """
        connection to server at "127.0.0.1", port 5432 failed: FATAL:  57P03: the database system is starting up
        LOCATION:  ProcessStartupPacket, postmaster.c:2275

        """
    private static let tooMany = """
        connection to server at "10.0.0.1", port 5432 failed: FATAL:  53300: sorry, too many clients already
        LOCATION:  ProcessStartupPacket, postmaster.c:2300

        """
    private static let standby = "connection to server at \"10.0.0.2\", port 5432 failed: session is read-only\n"
    private static let noSocket = """
        connection to server on socket "/tmp/.s.PGSQL.5432" failed: No such file or directory
        \tIs the server running locally and accepting connections on that socket?

        """

    @Test(
        "tells whether every server was unreachable",
        arguments: [
            (refused, true), (starting, true), (noSocket, true), (refused + standby, true), (tooMany, false),
            (refused + tooMany, false),
            ("connection to server at \"10.0.0.1\", port 5432 failed: timeout expired\n", false), ("", false),
            ("could not translate host name \"nowhere\" to address: Name or service not known\n", false),
        ]
    )
    func absences(text: String, areAbsences: Bool) { #expect(ConnectionRefusals(text).areAbsences == areAbsences) }

    @Test("is one line without useless parts")
    func message() {
        #expect(
            ConnectionRefusals(Self.refused + Self.starting).message
                == "connection to server at \"127.0.0.1\", port 1 failed: Connection refused; Is the server running on that host and "
                + "accepting TCP/IP connections?; connection to server at \"127.0.0.1\", port 5432 failed: FATAL:  the database "
                + "system is starting up"
        )
    }
}
