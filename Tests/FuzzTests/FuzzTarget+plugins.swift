import Breakwater
import Foundation
import Logging

import BreakwaterProcess
@testable import BreakwaterHTTP
@testable import BreakwaterStdio

extension FuzzTarget {
    /// The answer of a program or a server, which becomes `jsonb`.
    static let result = FuzzTarget(
        name: "result",
        samples: [#"{"a":[1,-2.5e3,"\u00e9\ud83d\ude00\u0000",true,null]}"#, "text", " 1 ", #""\ud800""#, "[[[[1]]]]"]
            .map { Array($0.utf8) }
    ) { bytes in
        for isCut in [false, true] {
            guard let json = JobResult.json(from: bytes, isCut: isCut) else { continue }
            try require(JobResult.isStorable(json), "it made \(json), which it would not store")
            try require(JobResult.json(from: Array(json.utf8)) == json, "\(json) reads back differently")
        }
        try require(!JobResult.text(from: bytes).utf8.contains(0), "a NUL is left")
    }

    /// `Retry-After` and the `Date` beside it, separated by a line feed.
    static let retryAfter = texts(
        "retry-after",
        [
            "120", "Fri, 31 Dec 1999 23:59:59 GMT\nFri, 31 Dec 1999 23:59:00 GMT", "99999999999999999999",
            "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "-1",
        ]
    ) { text in
        let parts = text.split(separator: "\n", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
        guard let wait = RetryAfter.duration(parts.first, date: parts.dropFirst().first) else { return }
        try require((.zero...RetryAfter.longest).contains(wait), "\(text) means \(wait)")
    }

    /// The URL of an `http` handler.
    static let url = texts(
        "url",
        [
            "https://a.example:8443/b?c=d#e", "http://[::1%25lo]/", "http://0x7f.1/", "http://u:p@h", "http:///",
            "http://é/",
        ]
    ) { text in
        guard let plugin = try? HTTPPlugin(url: text) else { return }
        let endpoint = plugin.fixedEndpoint
        try require(endpoint?.url.hasPrefix("http") == true, "\(text) goes to \(endpoint?.url ?? "nowhere")")
        try require(endpoint?.host.isEmpty == false, "\(text) has no host")
    }

    /// Addresses and networks, in an `allow` list and as hosts.
    static let network = texts(
        "network",
        ["10.0.0.0/8", "::ffff:10.0.0.1", "fe80::1%eth0", "::/0", "64:ff9b::/96", "a.b"]
    ) {
        text in
        if let network = IPNetwork(text) {
            try require(network.contains(network.address), "\(text) is not within itself")
        }
        if let address = IPAddress(text) {
            try require(IPAddress("\(address)") == address, "\(text) reads back as another address")
            _ = SpecialNetworks.kind(of: address)
        }
        _ = try? DestinationPolicy(host: text, allow: [text])
    }

    /// A program's standard error, in pieces whose length the first byte gives.
    static let errorLog = FuzzTarget(
        name: "error-log",
        samples: [[3] + Array("one\ntwo\r\n\0é\u{1F4A3}".utf8), [1, 10, 10]]
    ) {
        bytes in
        var log = ErrorLog(logger: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() })
        var rest = bytes.dropFirst()
        while !rest.isEmpty {
            log.append(Array(rest.prefix(Int(bytes[0]) + 1)))
            rest = rest.dropFirst(Int(bytes[0]) + 1)
        }
        let tail = log.finish()
        try require(tail.utf8.count <= 3 * ErrorLog.maximumTailBytes, "its tail has \(tail.utf8.count) bytes")
        try require(!tail.utf8.contains(0), "a NUL is left")
    }

    /// A line of a `stdio` handler.
    static let stdioLine = FuzzTarget(
        name: "stdio-line",
        samples: [
            #"{"type":"result","run":17,"outcome":"succeeded","result":{"a":[1,-2.5e3,"\u00e9\ud83d\ude00"]}}"#,
            #"{"type":"result","run":1,"outcome":"throttled","error":{"name":"a","message":"\ud800"},"retry_after":1e99}"#,
            #"{"type":"hello","protocol":1,"jobs":3,"can":["cancel", "heartbeat"],"library":"x"}"#,
            #"{"type":"progress","run":2,"fraction":0.5,"note":"n"}"#,
            #"{"type":"checkpoint","run":2,"checkpoint":[]}"#,
            #"{"type":"heartbeat"}"#, "[]", "",
        ].map { Array($0.utf8) }
    ) { bytes in
        let message = bytes.withUnsafeBytes { line in try? ProcessMessage(line) }
        switch message {
        case .result(_, .succeeded(let result?)), .checkpoint(_, let result):
            try require(JobResult.isStorable(result), "its result would not be stored: \(result)")
        case .result(_, .throttled(let failure, let retryAfter)):
            try require(retryAfter >= .zero, "it is throttled for \(retryAfter)")
            try require((1...200).contains(failure.name.utf8.count), "its name is \(failure.name)")
        case .progress(_, let fraction?, _):
            try require((0...1).contains(fraction), "its fraction is \(fraction)")
        case .hello(let hello):
            try require((1...1000).contains(hello.jobs), "it runs \(hello.jobs) jobs")
        default:
            break
        }
    }
}
