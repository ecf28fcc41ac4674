// The library of the tests: it does what the payload says, which is a JSON text of one word.

#define _DEFAULT_SOURCE
#include "breakwater_handler.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// The tests read and change these by dlsym.
BREAKWATER_EXPORT atomic_int probe_opens, probe_closes, probe_running, probe_most_running, probe_released;
BREAKWATER_EXPORT _Atomic uint64_t probe_old_run;

static _Atomic uint64_t handle;
static char kept_settings[256];

static int32_t probe_open(const breakwater_opening *opening, const breakwater_host *host, void **state) {
    atomic_fetch_add(&probe_opens, 1);
    if (strstr(opening->settings.bytes, "\"refuse\":true")) {
        snprintf(opening->problem, opening->problem_size, "the model is missing");
        return 1;
    }
    if (strstr(opening->settings.bytes, "\"refuse\":\"silently\"")) return -7;
    if (strstr(opening->settings.bytes, "\"refuse\":\"at length\"")) {
        memset(opening->problem, 'x', opening->problem_size);
        return 1;
    }
    snprintf(kept_settings, sizeof kept_settings, "%s", opening->settings.bytes);
    handle = opening->handle;
    static const char line[] = "opened";
    host->log(opening->handle, BREAKWATER_INFO, line, sizeof line - 1);
    *state = kept_settings;
    return 0;
}

static void probe_close(void *state) {
    if (state == kept_settings) atomic_fetch_add(&probe_closes, 1);
}

static int says(const breakwater_job *job, const char *word) {
    char text[200];
    int length = snprintf(text, sizeof text, "\"%s\"", word);
    return job->payload.length == (uint64_t) length && memcmp(job->payload.bytes, text, (size_t) length) == 0;
}

static breakwater_outcome outcome(int32_t number, const char *name) {
    breakwater_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.struct_size = sizeof outcome;
    outcome.outcome = number;
    outcome.name = breakwater_string(name);
    return outcome;
}

static void describe(const char *settings, const breakwater_job *job, const breakwater_host *host) {
    char json[2048];
    snprintf(
        json, sizeof json,
        "{\"id\":%lld,\"attempt\":%lld,\"max_attempts\":%lld,\"deadline_ms\":%lld,\"payload\":%s,\"kind\":\"%s\","
        "\"queue\":\"%s\",\"key\":\"%s\",\"checkpoint\":%s,\"traceparent\":\"%s\",\"tracestate\":\"%s\","
        "\"settings\":%s,\"sizes\":%d}",
        (long long) job->id, (long long) job->attempt, (long long) job->max_attempts, (long long) job->deadline_ms,
        job->payload.bytes, job->kind.bytes, job->queue.bytes, job->idempotency_key.bytes,
        job->checkpoint.bytes ? job->checkpoint.bytes : "null", job->traceparent.bytes ? job->traceparent.bytes : "-",
        job->tracestate.bytes ? job->tracestate.bytes : "-", settings,
        job->struct_size == sizeof *job && host->struct_size == sizeof *host && host->abi == BREAKWATER_ABI
            && job->kind.length == strlen(job->kind.bytes)
    );
    breakwater_succeed(host, job->run, json);
}

/// Outcomes that are allowed.
static int set_allowed(const breakwater_job *job, const breakwater_host *host) {
    uint64_t run = job->run;
    if (says(job, "succeed")) return breakwater_succeed(host, run, NULL), 1;
    if (says(job, "fail")) return breakwater_end(host, run, BREAKWATER_FAILED, "probe.failed", "it broke", 0), 1;
    if (says(job, "unavailable")) {
        return breakwater_end(host, run, BREAKWATER_UNAVAILABLE, "probe.down", "no answer", 0), 1;
    }
    if (says(job, "unavailable later")) {
        return breakwater_end(host, run, BREAKWATER_UNAVAILABLE, "probe.down", NULL, 30000), 1;
    }
    if (says(job, "throttle")) return breakwater_end(host, run, BREAKWATER_THROTTLED, "probe.rate", "slow", 0), 1;
    if (says(job, "throttle later")) {
        return breakwater_end(host, run, BREAKWATER_THROTTLED, "probe.rate", "slow", INT64_MAX), 1;
    }
    if (says(job, "discard")) return breakwater_end(host, run, BREAKWATER_DISCARDED, "probe.bad", "never", 0), 1;
    if (says(job, "snooze")) return breakwater_end(host, run, BREAKWATER_SNOOZED, NULL, NULL, 1500), 1;
    if (says(job, "unable")) return breakwater_end(host, run, BREAKWATER_UNABLE, "probe.noGPU", "no GPU", 0), 1;
    if (says(job, "release")) return breakwater_end(host, run, BREAKWATER_RELEASED, NULL, NULL, 0), 1;
    if (says(job, "not JSON")) return breakwater_succeed(host, run, "{not json"), 1;
    if (says(job, "blank")) return breakwater_succeed(host, run, "  "), 1;
    if (says(job, "long result")) {
        char *text = malloc(5000);
        memset(text, 'x', 4999);
        text[4999] = 0;
        breakwater_succeed(host, run, text);
        memset(text, 'y', 4999);
        free(text);
        return 1;
    }
    if (says(job, "odd texts")) {
        breakwater_outcome odd = outcome(BREAKWATER_FAILED, NULL);
        odd.name = (breakwater_text){"a\0b\xff", 4};
        odd.message = (breakwater_text){"c\0d\xc3", 4};
        return host->set_outcome(run, &odd), 1;
    }
    if (says(job, "twice")) {
        breakwater_end(host, run, BREAKWATER_FAILED, "probe.first", "", 0);
        return breakwater_succeed(host, run, "2"), 1;
    }
    if (says(job, "larger")) {
        struct { breakwater_outcome known; uint64_t later; } larger = {outcome(BREAKWATER_SUCCEEDED, NULL), 7};
        larger.known.struct_size = sizeof larger;
        return host->set_outcome(run, &larger.known), 1;
    }
    return says(job, "nothing");
}

/// Outcomes that are not allowed. The run says whether the host refused them, in its name.
static int set_invalid(const breakwater_job *job, const breakwater_host *host) {
    breakwater_outcome wrong;
    if (says(job, "unknown outcome")) wrong = outcome(99, "probe.x");
    else if (says(job, "zero")) memset(&wrong, 0, sizeof wrong);
    else if (says(job, "small")) { wrong = outcome(BREAKWATER_SUCCEEDED, NULL); wrong.struct_size = 8; }
    else if (says(job, "no name")) wrong = outcome(BREAKWATER_FAILED, NULL);
    else if (says(job, "empty name")) wrong = outcome(BREAKWATER_DISCARDED, "");
    else if (says(job, "long name")) {
        static char name[202];
        memset(name, 'n', 201);
        wrong = outcome(BREAKWATER_FAILED, name);
    } else if (says(job, "NULL name")) {
        wrong = outcome(BREAKWATER_FAILED, NULL);
        wrong.name.length = 5;
    } else if (says(job, "NULL message")) {
        wrong = outcome(BREAKWATER_FAILED, "probe.x");
        wrong.message.length = 5;
    } else if (says(job, "endless result")) {
        wrong = outcome(BREAKWATER_SUCCEEDED, NULL);
        wrong.result = (breakwater_text){"1", UINT64_MAX};
    } else if (says(job, "negative time")) {
        wrong = outcome(BREAKWATER_SNOOZED, NULL);
        wrong.retry_after_ms = -1;
    } else if (says(job, "no time")) wrong = outcome(BREAKWATER_SNOOZED, NULL);
    else if (says(job, "time of a failure")) {
        wrong = outcome(BREAKWATER_FAILED, "probe.x");
        wrong.retry_after_ms = 1;
    } else if (says(job, "NULL outcome")) {
        if (host->set_outcome(job->run, NULL) != BREAKWATER_INVALID) abort();
        return 1;
    } else return 0;
    if (host->set_outcome(job->run, &wrong) != BREAKWATER_INVALID) abort();
    return 1;
}

static void report(const breakwater_job *job, const breakwater_host *host) {
    char json[200];
    uint64_t run = job->run;
    int32_t codes[] = {
        host->progress(run, 0.5, "half", 4),
        host->progress(run, 0.0 / 0.0, NULL, 0),
        host->progress(run, BREAKWATER_SAME_FRACTION, "a\nb\xff", 4),
        host->progress(run, 0.7, NULL, 3),
        host->progress(run, 0.7, "x", UINT64_MAX),
    };
    snprintf(json, sizeof json, "[%d,%d,%d,%d,%d]", codes[0], codes[1], codes[2], codes[3], codes[4]);
    breakwater_succeed(host, run, json);
}

static void save(const breakwater_job *job, const breakwater_host *host) {
    static char large[65537];
    char json[200];
    uint64_t run = job->run;
    memset(large, '1', sizeof large);
    int32_t codes[] = {
        host->checkpoint(run, "{\"page\": 1}", 11), host->checkpoint(run, "{page", 5),
        host->checkpoint(run, "\"\xff\"", 3),       host->checkpoint(run, large, sizeof large),
        host->checkpoint(run, NULL, 0),             host->checkpoint(run, NULL, 1),
        host->checkpoint(handle, "1", 1),
    };
    snprintf(
        json, sizeof json, "[%d,%d,%d,%d,%d,%d,%d]", codes[0], codes[1], codes[2], codes[3], codes[4], codes[5], codes[6]
    );
    breakwater_succeed(host, run, json);
}

static void log_lines(const breakwater_job *job, const breakwater_host *host) {
    static char endless[20000];
    char json[200];
    memset(endless, 'z', sizeof endless);
    int32_t codes[] = {
        host->log(job->run, BREAKWATER_WARNING, "from the\0library\xff", 17),
        host->log(job->run, BREAKWATER_ERROR, endless, sizeof endless),
        host->log(job->run, 77, "x", 1),
        host->log(job->run, BREAKWATER_INFO, NULL, 0),
        host->log(handle, BREAKWATER_NOTICE, "of no job", 9),
    };
    snprintf(json, sizeof json, "[%d,%d,%d,%d,%d]", codes[0], codes[1], codes[2], codes[3], codes[4]);
    breakwater_succeed(host, job->run, json);
}

/// Uses the number of a run that has ended.
static void use_old_run(const breakwater_job *job, const breakwater_host *host) {
    char json[200];
    uint64_t old = probe_old_run;
    breakwater_outcome late = outcome(BREAKWATER_FAILED, "probe.late");
    int32_t codes[] = {
        host->is_cancelled(old),       host->wait(old, 60000),   host->progress(old, 1, NULL, 0),
        host->checkpoint(old, "1", 1), host->log(old, 2, "", 0), host->set_outcome(old, &late),
        host->set_outcome(0, &late),
    };
    snprintf(
        json, sizeof json, "[%d,%d,%d,%d,%d,%d,%d]", codes[0], codes[1], codes[2], codes[3], codes[4], codes[5], codes[6]
    );
    breakwater_succeed(host, job->run, json);
}

static uint32_t use_stack(uint32_t bytes) {
    volatile char place[64 << 10];
    memset((char *) place, (int) bytes, sizeof place);
    return bytes > sizeof place ? use_stack(bytes - (uint32_t) sizeof place) + (uint32_t) place[0] : (uint32_t) place[1];
}

/// Crashes unless the file of this name exists, which it makes before that.
static void crash_once(const char *settings) {
    char path[200];
    const char *name = strstr(settings, "\"marker\":\"");
    if (!name || sscanf(name, "\"marker\":\"%199[^\"]", path) != 1) abort();
    if (open(path, O_CREAT | O_EXCL, 0600) >= 0) *(volatile int *) 8 = 1;
}

/// The thread of a library that works for a run.
static void *set_from_thread(void *argument) {
    void **both = argument;
    const breakwater_host *host = both[1];
    breakwater_succeed(host, *(uint64_t *) both[0], "\"another thread\"");
    return NULL;
}

static void wait_for(const breakwater_job *job, const breakwater_host *host) {
    if (says(job, "poll")) {
        while (!host->is_cancelled(job->run)) usleep(1000);
        breakwater_end(host, job->run, BREAKWATER_RELEASED, NULL, NULL, 0);
    } else if (says(job, "wait")) {
        while (!host->wait(job->run, 3600000)) {}
    } else if (says(job, "ignore")) {
        while (!probe_released) usleep(1000);
        breakwater_succeed(host, job->run, "\"late\"");
    } else if (says(job, "finish")) {
        while (!host->wait(job->run, 3600000)) {}
        breakwater_succeed(host, job->run, "\"all the same\"");
    } else if (says(job, "count")) {
        // Every thread stays until the test lets all go.
        while (!probe_released && !host->is_cancelled(job->run)) usleep(1000);
        breakwater_succeed(host, job->run, NULL);
    } else if (says(job, "nap")) {
        int32_t is_cancelled = host->wait(job->run, 20) + host->wait(job->run, 0) + host->wait(job->run, -5);
        breakwater_succeed(host, job->run, is_cancelled ? "true" : "false");
    }
}

static void probe_run(void *state, const breakwater_job *job, const breakwater_host *host) {
    int running = atomic_fetch_add(&probe_running, 1) + 1;
    for (int most = probe_most_running; running > most;) {
        if (atomic_compare_exchange_weak(&probe_most_running, &most, running)) break;
    }
    if (strcmp(job->kind.bytes, "echo") == 0) breakwater_succeed(host, job->run, job->payload.bytes);
    else if (says(job, "describe") || job->payload.bytes[0] == '{') describe(state, job, host);
    else if (says(job, "report")) report(job, host);
    else if (says(job, "save")) save(job, host);
    else if (says(job, "log")) log_lines(job, host);
    else if (says(job, "remember")) {
        probe_old_run = job->run;
        breakwater_succeed(host, job->run, NULL);
    } else if (says(job, "use old run")) use_old_run(job, host);
    else if (says(job, "stack")) {
        use_stack(7 << 20);
        breakwater_succeed(host, job->run, NULL);
    } else if (says(job, "crash")) {
        *(volatile int *) 8 = 1;
    } else if (says(job, "crash once")) {
        crash_once(state);
        breakwater_succeed(host, job->run, NULL);
    } else if (says(job, "thread")) {
        uint64_t run = job->run;
        void *both[] = {&run, (void *) host};
        pthread_t thread;
        pthread_create(&thread, NULL, set_from_thread, both);
        pthread_join(thread, NULL);
    } else if (says(job, "signals")) {
        sigset_t blocked;
        pthread_sigmask(SIG_BLOCK, NULL, &blocked);
        int is_right = sigismember(&blocked, SIGTERM) && !sigismember(&blocked, SIGSEGV);
        breakwater_succeed(host, job->run, is_right ? "true" : "false");
    } else if (!set_allowed(job, host) && !set_invalid(job, host)) wait_for(job, host);
    atomic_fetch_sub(&probe_running, 1);
}

BREAKWATER_EXPORT const breakwater_handler *breakwater_entry(void) {
    static const breakwater_handler handler = {
        sizeof(breakwater_handler), BREAKWATER_ABI, "probe 1.0", probe_open, probe_run, probe_close,
    };
    return &handler;
}

/// A destructor of a variable would find its threads at work.
__attribute__((destructor)) static void end(void) {
    if (probe_running > 0) abort();
}

// Entries that a worker refuses, and one that it takes.

BREAKWATER_EXPORT const breakwater_handler *entry_null(void) { return NULL; }

BREAKWATER_EXPORT const breakwater_handler *entry_version(void) {
    static const breakwater_handler handler = {sizeof handler, 2, NULL, NULL, probe_run, NULL};
    return &handler;
}

BREAKWATER_EXPORT const breakwater_handler *entry_small(void) {
    static const breakwater_handler handler = {16, BREAKWATER_ABI, NULL, NULL, probe_run, NULL};
    return &handler;
}

BREAKWATER_EXPORT const breakwater_handler *entry_without_run(void) {
    static const breakwater_handler handler = {sizeof handler, BREAKWATER_ABI, NULL, NULL, NULL, NULL};
    return &handler;
}

BREAKWATER_EXPORT const breakwater_handler *entry_larger(void) {
    static const struct { breakwater_handler known; void *later[4]; } handler = {
        {sizeof handler, BREAKWATER_ABI, NULL, NULL, probe_run, NULL}, {0},
    };
    return &handler.known;
}
