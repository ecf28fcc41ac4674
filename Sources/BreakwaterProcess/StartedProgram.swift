package import Breakwater
import CProcess
import Glibc

/// Starts a program in a session of its own, with some descriptors as its standard streams and no others.
///
/// - Parameters:
///   - arguments: Its name and its arguments.
///   - environment: The variables, each as `NAME=value`.
///   - directory: The directory that it runs in; nil for the worker's.
///   - streams: Its standard input, output and error and, if it has one more, its descriptor 3. They are all above the
///     standard streams.
///   - process: The process, if it was started.
/// - Returns: 0, or an error number.
package func startProgram(
    _ executable: String,
    arguments: [String],
    environment: [String],
    directory: String?,
    streams: [Int32],
    process: inout Int32
) -> Int32 {
    let arguments: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
    let environment: [UnsafeMutablePointer<CChar>?] = environment.map { strdup($0) } + [nil]
    defer { for text in arguments + environment { free(text) } }
    return breakwater_start_program(
        executable,
        arguments,
        environment,
        directory,
        streams,
        Int32(streams.count),
        &process
    )
}

/// The reason why a program did not start.
package struct StartFailure: Error, Sendable {
    package var failure: JobFailure
    /// Whether this worker lacks something that others may have.
    package var isOfWorker = true

    /// - Parameters:
    ///   - number: The error number.
    ///   - executable: The program's file.
    ///   - directory: The directory that it was to run in; nil for the worker's.
    package init(_ number: Int32, of executable: String, in directory: String?) {
        let reason = String(cString: strerror(number))
        if let missing = JobFailure(limit: number, while: "starting the program \(executable)") {
            failure = missing
        } else if let directory, access(directory, X_OK) != 0 {
            failure = JobFailure(
                "exec.workingDirectory",
                "this worker cannot enter the directory \(directory): \(String(cString: strerror(errno)))"
            )
        } else if [ENOENT, ENOTDIR, EACCES].contains(number) {
            failure = JobFailure(
                "exec.notFound",
                "the program \(executable) could not be run: is it, or its interpreter, gone from this worker?"
            )
        } else if number == ETXTBSY {
            // A deployment writes it, or a process that was started at this moment has not let go of it yet.
            failure = JobFailure("exec.busy", "the program \(executable) could not be run: a process is writing it")
        } else {
            failure = JobFailure("exec.spawn", "the program \(executable) could not be run: \(reason)")
            isOfWorker = false
        }
    }
}
