// A Breakwater handler in C: it finds the prime factors of the number that is a job's payload.

#include "breakwater_handler.h"

#include <stdio.h>
#include <stdlib.h>

#define MOST_DIVISORS (1u << 22) // How many divisors are tried between two looks at the worker.

static int read_number(breakwater_text payload, uint64_t *number) {
    char *end;
    if (payload.length == 0 || payload.length > 18 || payload.bytes[0] < '1' || payload.bytes[0] > '9') return 0;
    *number = strtoull(payload.bytes, &end, 10);
    return end == payload.bytes + payload.length;
}

static void run(void *state, const breakwater_job *job, const breakwater_host *host) {
    (void) state;
    uint64_t number, divisor = 2;
    if (!read_number(job->payload, &number)) {
        breakwater_end(
            host, job->run, BREAKWATER_DISCARDED, "factor.badPayload", "the payload is no number of 1 to 18 digits", 0
        );
        return;
    }
    // An earlier run that did not end has tried all divisors below this one.
    if (job->checkpoint.bytes) divisor = strtoull(job->checkpoint.bytes, NULL, 10);
    if (divisor < 2) divisor = 2;

    char factors[512] = "[";
    int length = 1;
    const char *comma = "";
    uint32_t tried = 0;
    for (uint64_t rest = number; rest > 1;) {
        if (divisor * divisor > rest) divisor = rest;
        if (rest % divisor == 0) {
            length += snprintf(factors + length, sizeof factors - (size_t) length, "%s%llu", comma,
                               (unsigned long long) divisor);
            comma = ",";
            rest /= divisor;
            continue;
        }
        divisor++;
        if (++tried % MOST_DIVISORS != 0) continue;
        if (host->is_cancelled(job->run)) {
            breakwater_end(host, job->run, BREAKWATER_RELEASED, NULL, NULL, 0);
            return;
        }
        char note[64];
        int written = snprintf(note, sizeof note, "%llu", (unsigned long long) divisor);
        host->progress(job->run, (double) divisor * (double) divisor / (double) rest, note, (uint64_t) written);
        // The checkpoint holds only as long as no factor was found, because the factors are not in it.
        if (length == 1) host->checkpoint(job->run, note, (uint64_t) written);
    }
    snprintf(factors + length, sizeof factors - (size_t) length, "]");
    breakwater_succeed(host, job->run, factors);
}

BREAKWATER_EXPORT const breakwater_handler *breakwater_entry(void) {
    static const breakwater_handler handler = {
        sizeof(breakwater_handler), BREAKWATER_ABI, "factor 1.0", NULL, run, NULL,
    };
    return &handler;
}
