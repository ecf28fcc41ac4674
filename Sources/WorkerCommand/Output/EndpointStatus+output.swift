import Breakwater
import BreakwaterAdmin

extension EndpointStatus {
    /// The endpoint for programs.
    var json: JSONValue {
        .object([
            "name": .string(name),
            "url": .string(url),
            "state": .string(state),
            "secrets": .integer(Int64(secrets)),
            "headers": .array(headers.map { .string($0) }),
            "disable_after": .integer(orNull: disableAfter.map { Int($0.components.seconds) }),
            "concurrency": .integer(orNull: concurrency),
            "rate_per_second": .number(orNull: rate),
            "burst": .integer(orNull: burst),
            "disabled_at": disabledAt.map { .time($0) } ?? .null,
            "disabled_by": .string(orNull: disabledBy),
            "disabled_reason": .string(orNull: disabledReason),
            "failing_since": failingSince.map { .time($0) } ?? .null,
            "failed_at": failedAt.map { .time($0) } ?? .null,
            "last_failure": .string(orNull: lastFailure),
            "circuits": .array(circuits.map { .string($0) }),
            "held": .integer(Int64(held)),
            "created_at": .time(createdAt),
            "updated_at": .time(updatedAt),
        ])
    }

    /// How many jobs wait, as far as they were counted.
    var heldText: String { held > Self.heldCap ? "over \(Self.heldCap)" : "\(held)" }

    /// How many deliveries may run and start.
    private var limitText: String {
        allows.isEmpty ? "-" : allows + (burst.map { ", burst \($0)" } ?? "")
    }

    /// The endpoint for people, one fact a line.
    var details: [(name: String, value: String)] {
        let rule =
            switch disableAfter {
            case nil: "as its handlers say"
            case .zero?: "never"
            case let time?: "when all deliveries have failed for \(time.text)"
            }
        return [
            ("name", name), ("url", url), ("state", state),
            (
                "disabled",
                disabledAt.map { "\($0.shortText) by \(disabledBy ?? "?"): \(disabledReason ?? "-")" } ?? "-"
            ),
            ("failing since", failingSince?.shortText ?? "-"), ("last failed", failedAt?.shortText ?? "-"),
            ("last failure", lastFailure ?? "-"),
            ("circuits", circuits.isEmpty ? "closed" : circuits.joined(separator: ", ")), ("held jobs", heldText),
            ("secrets", "\(secrets)"), ("headers", headers.isEmpty ? "-" : headers.joined(separator: ", ")),
            ("limit", limitText), ("disabled by rule", rule), ("created", createdAt.shortText),
            ("changed", updatedAt.shortText),
        ]
    }

    /// Endpoints under headings.
    static func table(_ endpoints: [EndpointStatus]) -> Table {
        Table(
            columns: [
                .text("NAME"), .text("STATE"), .number("HELD"), .text("FAILING SINCE"), .long("URL"), .long("WHY"),
            ],
            rows: endpoints.map { endpoint in
                [
                    endpoint.name, endpoint.state, endpoint.heldText, endpoint.failingSince?.shortText ?? "",
                    endpoint.url, endpoint.disabledReason ?? endpoint.lastFailure ?? "",
                ]
            }
        )
    }
}
