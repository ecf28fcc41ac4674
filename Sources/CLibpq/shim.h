#pragma once
#include <libpq-fe.h>

// What a connection's own thread needs besides libpq, and Swift's Glibc module does not export.
#include <sys/eventfd.h>
#include <sys/prctl.h>

/// Names the calling thread, in at most 15 bytes; prctl is variadic, which Swift cannot call.
static inline void breakwater_name_thread(const char *name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
}
