import Breakwater
package import Libpq

/// One message about an incident or an endpoint to deliver.
package struct Notice: Equatable, Sendable {
    /// What the message is about.
    package enum Topic: String, Sendable {
        case incident, endpoint
    }

    package var topic = Topic.incident
    /// The incident's number, or that of the message about an endpoint.
    package var number: Int64
    /// `began` or `ended` for an incident, `disabled` for an endpoint.
    package var type: String
    /// The name of the endpoint that the message is about.
    package var endpoint: String?
    /// The message's id, which is the same for every attempt.
    package var id: String
    /// The number of this attempt, starting from 1.
    package var tries: Int
    /// JSON.
    package var message: String
}

/// `breakwater.next_notice`: reserves the next message that is due for a minute. Nil if there is none.
package struct NextNotice: StoreCall {
    package init() {}

    package var statement: Statement {
        Statement("select incident, type, id, tries, message from breakwater.next_notice()", [])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Notice? {
        let row = try result.row(0)
        guard let incident = try row[0].int64OrNil() else { return nil }
        return Notice(
            number: incident,
            type: try row[1].string(),
            id: try row[2].string(),
            tries: try row[3].int(),
            message: try row[4].string()
        )
    }
}

/// `breakwater.next_endpoint_notice`: reserves the next message about a disabled endpoint for a minute. Nil if there is
/// none.
package struct NextEndpointNotice: StoreCall {
    package init() {}

    package var statement: Statement {
        Statement("select notice, endpoint, id, tries, message from breakwater.next_endpoint_notice()", [])
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Notice? {
        let row = try result.row(0)
        guard let number = try row[0].int64OrNil() else { return nil }
        return Notice(
            topic: .endpoint,
            number: number,
            type: "disabled",
            endpoint: try row[1].string(),
            id: try row[2].string(),
            tries: try row[3].int(),
            message: try row[4].string()
        )
    }
}

/// `breakwater.notice_ended` and `breakwater.endpoint_notice_ended`: records how an attempt to deliver a message ended.
/// Returns whether the message is given up.
package struct NoticeEnded: StoreCall {
    package var notice: Notice
    package var isDelivered: Bool

    package init(_ notice: Notice, isDelivered: Bool) {
        self.notice = notice
        self.isDelivered = isDelivered
    }

    package var statement: Statement {
        let (number, tries) = (Parameter.int8(notice.number), Parameter.int4(Int32(clamping: notice.tries)))
        switch notice.topic {
        case .incident:
            return Statement(
                "select breakwater.notice_ended($1, $2, $3, $4)",
                [number, .text(notice.type), tries, .bool(isDelivered)]
            )
        case .endpoint:
            return Statement(
                "select breakwater.endpoint_notice_ended($1, $2, $3)",
                [number, tries, .bool(isDelivered)]
            )
        }
    }

    package func decode(_ result: QueryResult) throws(PostgresError) -> Bool { try result.row(0)[0].bool() }
}
