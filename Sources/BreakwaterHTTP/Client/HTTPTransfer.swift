import Breakwater
import CLibcurl
import Glibc

/// One request while a thread of the client processes it. Only that thread uses this object, also in curl's callbacks.
final class HTTPTransfer {
    /// The most bytes of headers. A request whose answer has more is ended.
    static let maximumHeaderBytes = 64 << 10
    /// The timeout for connecting in milliseconds, if the request's own timeout is longer.
    static let connectTimeoutMilliseconds = 10_000

    /// Identifies the request to the task that waits for it.
    let id: Int
    let easy: UnsafeMutableRawPointer
    private let request: HTTPRequest
    private let sockets: SocketSet
    private var lists: [UnsafeMutablePointer<curl_slist>] = []
    private let errorText = UnsafeMutablePointer<CChar>.allocate(capacity: Int(CURL_ERROR_SIZE))

    private var response = HTTPResponse(status: 0)
    private var headerBytes = 0
    /// Whether the empty line after the headers has arrived.
    private var headersAreComplete = false
    private var headerProblem: String?
    private var refusal: String?
    private var triedAnAddress = false
    private var openedSockets = 0
    /// The error number of the last failure to open a socket.
    private var socketError: Int32 = 0
    /// Whether curl was allowed to send the request. It must not send it a second time.
    private var wasSent = false
    private var triedToSendAgain = false

    /// - Parameters:
    ///   - easy: A handle of curl that no other transfer uses, with no options set.
    ///   - sockets: Where the sockets that it opens are watched.
    init(_ id: Int, _ request: HTTPRequest, on easy: UnsafeMutableRawPointer, _ sockets: SocketSet) {
        self.id = id
        self.easy = easy
        self.request = request
        self.sockets = sockets
        errorText[0] = 0
        setRequest()
        setLimits()
        setCallbacks()
    }

    /// The handle must have been reset by then, because its options have pointers to this object.
    deinit {
        for list in lists { curl_slist_free_all(list) }
        errorText.deallocate()
    }

    private func setRequest() {
        breakwater_set_string(easy, CURLOPT_URL, request.url)
        switch request.method {
        case .get: break
        case .head: breakwater_set_long(easy, CURLOPT_NOBODY, 1)
        case .post: breakwater_set_long(easy, CURLOPT_POST, 1)
        case .put, .patch, .delete:
            if request.method.hasBody { breakwater_set_long(easy, CURLOPT_POST, 1) }
            breakwater_set_string(easy, CURLOPT_CUSTOMREQUEST, request.method.rawValue)
        }
        if request.method.hasBody {
            breakwater_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, curl_off_t(request.body.count))
            breakwater_set_pointer(easy, CURLOPT_COPYPOSTFIELDS, request.body)
        }
        breakwater_set_pointer(easy, CURLOPT_HTTPHEADER, list(request.headers))
        if !request.resolve.isEmpty { breakwater_set_pointer(easy, CURLOPT_RESOLVE, list(request.resolve)) }
        if let caFile = request.caFile { breakwater_set_string(easy, CURLOPT_CAINFO, caFile) }
    }

    private func setLimits() {
        let timeout = max(1, request.timeoutMilliseconds)
        breakwater_set_long(easy, CURLOPT_TIMEOUT_MS, timeout)
        breakwater_set_long(easy, CURLOPT_CONNECTTIMEOUT_MS, min(timeout, Self.connectTimeoutMilliseconds))
        // Curl must not use SIGALRM for timeouts nor change the handling of SIGPIPE, because this process has many
        // threads.
        breakwater_set_long(easy, CURLOPT_NOSIGNAL, 1)
        // Without this option, curl would join its resolver's thread when a request ends, so a name server that does
        // not answer would block this thread.
        breakwater_set_long(easy, CURLOPT_QUICK_EXIT, 1)
        breakwater_set_string(easy, CURLOPT_PROTOCOLS_STR, "http,https")
        breakwater_set_long(easy, CURLOPT_FOLLOWLOCATION, 0)
        // An empty string also overrides the proxies of the environment. Leaving the option unset would not.
        breakwater_set_string(easy, CURLOPT_PROXY, "")
        // Curl allocates this buffer for each request. Answers are short, and a small block is allocated faster.
        breakwater_set_long(easy, CURLOPT_BUFFERSIZE, 1024)
        breakwater_set_long(easy, CURLOPT_TCP_KEEPALIVE, 1)
        breakwater_set_pointer(easy, CURLOPT_ERRORBUFFER, errorText)
    }

    private func setCallbacks() {
        // The object is not retained here, because the client keeps it until the handle is removed.
        let context = Unmanaged.passUnretained(self).toOpaque()
        breakwater_set_pointer(easy, CURLOPT_WRITEDATA, context)
        breakwater_set_data_callback(easy, CURLOPT_WRITEFUNCTION) { data, size, count, context in
            HTTPTransfer.from(context).receiveBody(UnsafeRawBufferPointer(start: data, count: size * count))
        }
        breakwater_set_pointer(easy, CURLOPT_HEADERDATA, context)
        breakwater_set_data_callback(easy, CURLOPT_HEADERFUNCTION) { data, size, count, context in
            HTTPTransfer.from(context).receiveHeader(UnsafeRawBufferPointer(start: data, count: size * count))
        }
        breakwater_set_pointer(easy, CURLOPT_OPENSOCKETDATA, context)
        breakwater_set_socket_callback(easy) { context, _, address in
            guard let address else { return CURL_SOCKET_BAD }
            return HTTPTransfer.from(context).openSocket(to: address)
        }
        // Curl closes a kept connection later than this transfer ends, so the context is the thread's own set.
        breakwater_set_pointer(easy, CURLOPT_CLOSESOCKETDATA, Unmanaged.passUnretained(sockets).toOpaque())
        breakwater_set_close_callback(easy) { context, socket in SocketSet.from(context).closeSocket(socket) }
        breakwater_set_pointer(easy, CURLOPT_PRIVATE, context)
        breakwater_set_pointer(easy, CURLOPT_PREREQDATA, context)
        breakwater_set_prerequest_callback(easy) { context, remoteAddress, _, _, _ in
            HTTPTransfer.from(context).maySend(to: remoteAddress.map { String(cString: $0) })
                ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT
        }
    }

    /// The transfer of a handle.
    static func of(_ easy: UnsafeMutableRawPointer) -> HTTPTransfer {
        var context: UnsafeMutableRawPointer?
        breakwater_get_pointer(easy, CURLINFO_PRIVATE, &context)
        return from(context)
    }

    private static func from(_ context: UnsafeMutableRawPointer?) -> HTTPTransfer {
        // `setCallbacks` gave curl this object, which the loop keeps until it has reset the handle.
        Unmanaged.fromOpaque(context!).takeUnretainedValue()
    }

    private func list(_ lines: [String]) -> UnsafeMutablePointer<curl_slist>? {
        let list = lines.reduce(nil) { list, line in line.withCString { curl_slist_append(list, $0) } ?? list }
        if let list { lists.append(list) }
        return list
    }

    // MARK: Curl's callbacks

    /// Keeps as much of the data as fits. If not all of it fits, the return value makes curl end the transfer.
    private func receiveBody(_ data: UnsafeRawBufferPointer) -> Int {
        let room = request.maxResponseBytes - response.body.count
        response.body += data.prefix(room)
        response.isBodyCut = data.count > room
        return response.isBodyCut ? 0 : data.count
    }

    private func receiveHeader(_ data: UnsafeRawBufferPointer) -> Int {
        headerBytes += data.count
        guard headerBytes <= Self.maximumHeaderBytes else {
            headerProblem = data.count > Self.maximumHeaderBytes ? Self.lineTooLong : Self.headersTooLong
            return 0
        }
        if data.starts(with: "HTTP/".utf8) {
            // Another answer begins. The previous one was interim (1xx).
            response = HTTPResponse(status: 0)
            headersAreComplete = false
        } else if data.elementsEqual("\r\n".utf8) || data.elementsEqual("\n".utf8) {
            headersAreComplete = true
        } else if headersAreComplete {
            // Trailers of a chunked body are ignored.
        } else if let colon = data.firstIndex(of: UInt8(ascii: ":")) {
            let value = String(decoding: data[(colon + 1)...], as: UTF8.self)
            switch String(decoding: data[..<colon], as: UTF8.self).lowercased() {
            case "retry-after": response.retryAfter = value.trimmingHeaderWhitespace
            case "date": response.date = value.trimmingHeaderWhitespace
            default: break
            }
        }
        return data.count
    }

    /// Checks the address that the name resolved to, and opens a socket for it.
    private func openSocket(to address: UnsafeMutablePointer<curl_sockaddr>) -> curl_socket_t {
        let (family, type, number) = (address.pointee.family, address.pointee.socktype, address.pointee.protocol)
        // After the request was sent, curl opens a new connection only to send it again.
        guard !wasSent else {
            triedToSendAgain = true
            return CURL_SOCKET_BAD
        }
        // The field is declared as a `sockaddr`, but its actual length is `addrlen`.
        guard let offset = MemoryLayout<curl_sockaddr>.offset(of: \.addr),
            let destination = IPAddress(UnsafeRawPointer(address) + offset, length: Int(address.pointee.addrlen))
        else { return CURL_SOCKET_BAD }
        if let refusal = request.policy.refusal(of: destination) {
            self.refusal = refusal
            return CURL_SOCKET_BAD
        }
        triedAnAddress = true
        let (descriptor, error) = DescriptorReserve.open { socket(family, type | Int32(SOCK_CLOEXEC.rawValue), number) }
        if descriptor < 0 {
            socketError = error
        } else {
            openedSockets += 1
            sockets.opened(descriptor)
        }
        return descriptor
    }

    /// Checks the address of the connection again, because another handler with another allow-list may have opened it.
    ///
    /// Curl calls this each time before it sends the request. If servers close kept connections without an answer, curl
    /// would send the request up to six times, although a server may already have processed it. So only the first time
    /// is allowed.
    private func maySend(to address: String?) -> Bool {
        guard !wasSent else {
            triedToSendAgain = true
            return false
        }
        guard let address = address.flatMap(IPAddress.init) else { return false }
        refusal = request.policy.refusal(of: address)
        triedAnAddress = refusal == nil
        wasSent = refusal == nil
        return wasSent
    }

    // MARK: The end

    /// The result of the request.
    func answer(_ result: CURLcode) -> HTTPAnswer {
        var status = 0
        breakwater_get_long(easy, CURLINFO_RESPONSE_CODE, &status)
        response.status = status
        // A 101 is final here, because no request asks to switch protocols.
        let isAnswered = headersAreComplete && (status >= 200 || status == 101)
        if isAnswered, result == CURLE_OK || result == CURLE_WRITE_ERROR && response.isBodyCut {
            return .response(response)
        }
        var failure = failure(result)
        if isAnswered { failure.response = response }
        return .failure(failure)
    }

    private func failure(_ result: CURLcode) -> HTTPTransferFailure {
        if let refusal, !triedAnAddress { return HTTPTransferFailure(code: .refusedAddress, reason: refusal) }
        if triedToSendAgain {
            let reason = "the server closed a kept connection without an answer"
            return HTTPTransferFailure(code: .connection, reason: reason)
        }
        if let headerProblem { return HTTPTransferFailure(code: .headers, reason: headerProblem) }
        let isAnsweredInPart = response.status > 0 && !headersAreComplete
        if result == CURLE_OUT_OF_MEMORY, isAnsweredInPart {
            // Curl limits a line to 100 KiB, and reports a longer one as out of memory.
            return HTTPTransferFailure(code: .headers, reason: Self.lineTooLong)
        }
        if result == CURLE_OK {
            let reason = "the server closed the connection before the end of the answer's headers"
            return HTTPTransferFailure(code: .connection, reason: reason)
        }
        if headerBytes == 0, let missing = missing(result) { return HTTPTransferFailure(missing: missing) }
        let detail = String(cString: errorText)
        let reason = detail.isEmpty ? String(cString: curl_easy_strerror(result)) : detail
        return HTTPTransferFailure(code: .init(result), reason: reason)
    }

    /// What this process lacks, if that is the reason why there is no answer.
    private func missing(_ result: CURLcode) -> JobFailure? {
        switch result {
        case CURLE_OUT_OF_MEMORY, CURLE_FAILED_INIT:
            return Self.missingDescriptors(while: "making a request") ?? .memoryForRequest
        case CURLE_COULDNT_CONNECT where openedSockets == 0:
            if socketError == EACCES {
                return JobFailure("worker.EACCES", "opening a socket failed: this worker is not allowed to")
            }
            return JobFailure(limit: socketError, while: "opening a socket")
        case CURLE_COULDNT_CONNECT where openedSockets == 1:
            // Only one socket was opened, so the error number belongs to it. With several addresses it might not.
            var number = 0
            breakwater_get_long(easy, CURLINFO_OS_ERRNO, &number)
            return number == EADDRNOTAVAIL ? JobFailure(limit: EADDRNOTAVAIL, while: "connecting") : nil
        case CURLE_COULDNT_RESOLVE_HOST:
            // This is curl's message for a thread that it could not start. The resolver itself does not report a
            // reason.
            if String(cString: errorText).contains("thread failed to start") {
                return JobFailure(limit: EAGAIN, while: "looking a host's name up")
            }
            return Self.missingDescriptors(while: "looking a host's name up")
        case CURLE_SSL_CACERT_BADFILE:
            let file =
                request.caFile.map { "its file of certificate authorities '\($0)'" } ?? "the system's certificates"
            return Self.missingDescriptors(while: "reading \(file)")
                ?? JobFailure("http.caFile", "this worker cannot read \(file)")
        default:
            return nil
        }
    }

    /// The failure if descriptors are scarce. It is judged by how many can be opened now, although the failed request
    /// has already released a few.
    private static func missingDescriptors(while action: String) -> JobFailure? {
        ProcessLimits.errorOpening(descriptors: 8).flatMap { JobFailure(limit: $0, while: action) }
    }

    private static let lineTooLong = "a line of the answer's headers is longer than \(maximumHeaderBytes) bytes"
    private static let headersTooLong = "the answer has more than \(maximumHeaderBytes) bytes of headers"
}

extension HTTPTransferFailure.Code {
    fileprivate init(_ result: CURLcode) {
        self =
            switch result {
            case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: .dns
            case CURLE_OPERATION_TIMEDOUT: .timeout
            case CURLE_COULDNT_CONNECT, CURLE_SEND_ERROR, CURLE_RECV_ERROR, CURLE_GOT_NOTHING, CURLE_PARTIAL_FILE,
                CURLE_HTTP2, CURLE_HTTP2_STREAM, CURLE_SEND_FAIL_REWIND:
                .connection
            case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER,
                CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS,
                CURLE_SSL_PINNEDPUBKEYNOTMATCH, CURLE_SSL_CLIENTCERT, CURLE_USE_SSL_FAILED:
                .tls
            case CURLE_UNSUPPORTED_PROTOCOL, CURLE_WEIRD_SERVER_REPLY, CURLE_BAD_CONTENT_ENCODING: .protocol
            default: .client
            }
    }
}

extension JobFailure {
    /// The failure when there is no memory for a request.
    static var memoryForRequest: JobFailure {
        JobFailure(limit: ENOMEM, while: "making a request") ?? JobFailure("http.client", "out of memory")
    }
}

extension String {
    fileprivate var trimmingHeaderWhitespace: String {
        var text = self[...]
        while text.unicodeScalars.last?.properties.isWhitespace == true { text.unicodeScalars.removeLast() }
        return String(text.drop { $0 == " " || $0 == "\t" })
    }
}
