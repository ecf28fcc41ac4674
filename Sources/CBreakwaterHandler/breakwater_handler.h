// The interface between a Breakwater worker and a handler in a shared library, version 1.
//
// A library exports one function, breakwater_entry, which returns a constant table of functions. The worker loads the
// library once, calls `open`, then calls `run` once for each job, from several threads at once, and in the end `close`.
//
// The worker is not linked: all that a handler can call is in the table `breakwater_host`. So this header is all that a
// library needs. It is C11, and C++11 too. It contains declarations and a few inline functions for handlers in C.
//
// The promise: within one version, no field moves, changes its type or its meaning, and no number changes. New fields
// come after the last one, and `struct_size` says how many there are. A worker that has later versions also loads
// libraries of version 1.
//
// Texts are UTF-8. Each has a length in bytes, without the NUL at its end. The worker ends each text that it gives with
// a NUL, and needs none in texts that it gets.

#ifndef BREAKWATER_HANDLER_H
#define BREAKWATER_HANDLER_H

#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/// The version of this interface.
#define BREAKWATER_ABI 1

/// Exports the entry from a library that hides its symbols otherwise.
#define BREAKWATER_EXPORT __attribute__((visibility("default")))

// MARK: Numbers

// The outcomes of a run. `name` and `message` say why; the ones marked * need a name.

/// The work is done. `result` is kept if the kind keeps results.
#define BREAKWATER_SUCCEEDED 1
/// * The run failed. The job is retried with backoff.
#define BREAKWATER_FAILED 2
/// * What the job depends on is down. The job is retried with backoff, or after `retry_after_ms` if that is longer.
#define BREAKWATER_UNAVAILABLE 3
/// * What the job depends on limits the rate. The job runs again after `retry_after_ms`, or after a time that grows.
#define BREAKWATER_THROTTLED 4
/// * The job can never succeed. It becomes a dead letter.
#define BREAKWATER_DISCARDED 5
/// The job runs again after `retry_after_ms`, which is more than 0.
#define BREAKWATER_SNOOZED 6
/// * This worker lacks something, whatever the job is. It suspends itself for the kind for a while.
#define BREAKWATER_UNABLE 7
/// The job runs again at once, and spends no attempt. This is the outcome of a run that ends because it is cancelled.
#define BREAKWATER_RELEASED 8

// The levels of the log.

#define BREAKWATER_TRACE 0
#define BREAKWATER_DEBUG 1
#define BREAKWATER_INFO 2
#define BREAKWATER_NOTICE 3
#define BREAKWATER_WARNING 4
#define BREAKWATER_ERROR 5

// What the functions of the host return.

/// The call has done what it says.
#define BREAKWATER_OK 0
/// There is no such run: it has ended.
#define BREAKWATER_ENDED (-1)
/// An argument is not allowed: NULL, a number out of range, or text that is not JSON.
#define BREAKWATER_INVALID (-2)
/// The text is longer than allowed.
#define BREAKWATER_TOO_LARGE (-3)

/// The fraction of a progress that reports only a note.
#define BREAKWATER_SAME_FRACTION (-1.0)

// MARK: What passes between a worker and a library

/// A text. Without a text, `bytes` is NULL and `length` is 0.
typedef struct breakwater_text {
    const char *bytes;
    uint64_t length;
} breakwater_text;

/// One run of one job. It and its texts are valid until `run` returns.
typedef struct breakwater_job {
    /// The size of this struct in bytes.
    uint32_t struct_size;
    /// 0.
    uint32_t reserved;
    /// The run, for the functions of the host. It is never 0, and no other run of the process has the same number.
    uint64_t run;
    /// The job's id.
    int64_t id;
    /// The number of this counted run, from 1 on.
    int64_t attempt;
    /// The most counted runs.
    int64_t max_attempts;
    /// When the run is cancelled: milliseconds since 1970-01-01 00:00 UTC.
    int64_t deadline_ms;
    /// The payload: one JSON value.
    breakwater_text payload;
    breakwater_text kind;
    breakwater_text queue;
    /// A text that is the same for every run of the job.
    breakwater_text idempotency_key;
    /// The last checkpoint of an earlier run, a JSON value. NULL if there is none.
    breakwater_text checkpoint;
    /// The W3C trace context of the run. NULL if there is none.
    breakwater_text traceparent;
    breakwater_text tracestate;
} breakwater_job;

/// What became of a run. Set all bytes to 0 first, then `struct_size` and what applies.
typedef struct breakwater_outcome {
    /// sizeof(breakwater_outcome).
    uint32_t struct_size;
    /// One of BREAKWATER_SUCCEEDED to BREAKWATER_RELEASED.
    int32_t outcome;
    /// Milliseconds, for BREAKWATER_UNAVAILABLE, _THROTTLED and _SNOOZED. 0: no time.
    int64_t retry_after_ms;
    /// A JSON value, for BREAKWATER_SUCCEEDED. NULL: no result.
    breakwater_text result;
    /// The name of a failure, 1 to 200 bytes. Retry rules match it, so choose stable ones, such as "mail.refused".
    breakwater_text name;
    /// A description of the failure for people.
    breakwater_text message;
} breakwater_outcome;

/// The functions of the worker. The table is the same in all calls and valid until the process ends.
///
/// Any thread may call them. Each takes the number of a run, and does nothing once that run has ended.
typedef struct breakwater_host {
    /// The size of this struct in bytes.
    uint32_t struct_size;
    /// The newest version of the interface that the worker has: at least 1.
    uint32_t abi;

    /// Whether the run is to end soon: its time is over, the worker stops, or the job is cancelled. Also 1 if the run
    /// has ended. It takes less than a microsecond.
    int32_t (*is_cancelled)(uint64_t run);

    /// Waits until the run is cancelled, at most for this long. Returns what `is_cancelled` would.
    int32_t (*wait)(uint64_t run, int64_t milliseconds);

    /// Reports how much is done, and what is being done, for people. It may be called often.
    ///
    /// - `fraction`: from 0 to 1. Below 0 or not a number: the last one stays. Above 1: 1.
    /// - `note`: at most 200 characters are kept. NULL: the last one stays.
    int32_t (*progress)(uint64_t run, double fraction, const char *note, uint64_t note_length);

    /// Saves a state from which a later run of the job can go on: a JSON value of at most 65,536 bytes.
    ///
    /// If it returns BREAKWATER_INVALID or BREAKWATER_TOO_LARGE, the last checkpoint stays.
    int32_t (*checkpoint)(uint64_t run, const char *json, uint64_t length);

    /// Writes one line to the worker's log, with the job's identity. At most 8 KiB of it are kept.
    ///
    /// - `run`: a run, or the `handle` that `open` got, for lines that belong to no job.
    /// - `level`: one of BREAKWATER_TRACE to BREAKWATER_ERROR.
    int32_t (*log)(uint64_t run, int32_t level, const char *message, uint64_t length);

    /// Sets the outcome of the run. The worker copies its texts before this returns. The last call before the return
    /// of `run` counts.
    ///
    /// If it returns BREAKWATER_INVALID, and no later call is right, the run fails as `library.invalidOutcome`.
    int32_t (*set_outcome)(uint64_t run, const breakwater_outcome *outcome);
} breakwater_host;

/// What `open` gets. It is valid until `open` returns.
typedef struct breakwater_opening {
    /// The size of this struct in bytes.
    uint32_t struct_size;
    /// The most calls of `run` at once.
    uint32_t threads;
    /// A number for the host's `log`, valid until `close` returns.
    uint64_t handle;
    /// The `settings` of the worker's configuration as a JSON object.
    breakwater_text settings;
    /// Where `open` may write why it fails: at most `problem_size` bytes, with a NUL at the end.
    char *problem;
    uint64_t problem_size;
} breakwater_opening;

/// The functions of a library.
typedef struct breakwater_handler {
    /// sizeof(breakwater_handler).
    uint32_t struct_size;
    /// BREAKWATER_ABI.
    uint32_t abi;
    /// The library's name and version for the log, up to a NUL. NULL: none.
    const char *name;

    /// Prepares what all runs share. NULL: nothing is to be prepared.
    ///
    /// It is called once, before the first run, for each kind of job that names the library.
    ///
    /// - `state`: where to put a pointer that `run` and `close` get.
    ///
    /// Returns 0. Any other number: it failed. Jobs then wait, and `open` is called again later.
    int32_t (*open)(const breakwater_opening *opening, const breakwater_host *host, void **state);

    /// Runs one job, and sets its outcome with `set_outcome`. A run without an outcome fails as `library.noOutcome`, or
    /// is released if it was cancelled.
    ///
    /// It is called on several threads at once. It must return soon after the run is cancelled, and must not let an
    /// exception out: that ends the worker.
    void (*run)(void *state, const breakwater_job *job, const breakwater_host *host);

    /// Releases what `open` has prepared. NULL: nothing is to be released. It is called once, after the last run.
    void (*close)(void *state);
} breakwater_handler;

/// The function that the library exports. What it returns must be valid until the process ends.
BREAKWATER_EXPORT const breakwater_handler *breakwater_entry(void);

// MARK: For handlers in C

/// A text of a C string. NULL: no text.
static inline breakwater_text breakwater_string(const char *string) {
    breakwater_text text = {string, string ? (uint64_t) strlen(string) : 0};
    return text;
}

/// Ends a run as succeeded, with a result of JSON, or NULL for none.
static inline int32_t breakwater_succeed(const breakwater_host *host, uint64_t run, const char *json) {
    breakwater_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.struct_size = sizeof outcome;
    outcome.outcome = BREAKWATER_SUCCEEDED;
    outcome.result = breakwater_string(json);
    return host->set_outcome(run, &outcome);
}

/// Ends a run with any outcome other than BREAKWATER_SUCCEEDED. `name` and `message` may be NULL for those without a
/// failure, and `retry_after_ms` is 0 for those without a time.
static inline int32_t breakwater_end(
    const breakwater_host *host, uint64_t run, int32_t number, const char *name, const char *message,
    int64_t retry_after_ms
) {
    breakwater_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.struct_size = sizeof outcome;
    outcome.outcome = number;
    outcome.retry_after_ms = retry_after_ms;
    outcome.name = breakwater_string(name);
    outcome.message = breakwater_string(message);
    return host->set_outcome(run, &outcome);
}

#ifdef __cplusplus
}
#endif

#endif
