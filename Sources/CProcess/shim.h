#pragma once
#include <sys/prctl.h>
#include <sys/resource.h>

// prctl() is variadic, which Swift does not call.

/// No core file, and no other process of the same account may read this one's memory. 0, or -1 with errno.
static inline int breakwater_refuse_dumps(void) {
    struct rlimit none = {0, 0};
    int core = setrlimit(RLIMIT_CORE, &none);
    int dumpable = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return core == 0 && dumpable == 0 ? 0 : -1;
}
