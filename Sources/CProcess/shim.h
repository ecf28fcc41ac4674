#pragma once
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

// prctl() is variadic, which Swift does not call.

/// No core file, and no other process of the same account may read this one's memory. 0, or -1 with errno.
static inline int breakwater_refuse_dumps(void) {
    struct rlimit none = {0, 0};
    int core = setrlimit(RLIMIT_CORE, &none);
    int dumpable = prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    return core == 0 && dumpable == 0 ? 0 : -1;
}

// Of glibc, which shows them to GNU sources alone: Swift's are none.
int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);
int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path);
int pipe2(int ends[2], int flags);

/// A descriptor that becomes readable when this child has exited, or -1 with errno. syscall() is variadic too.
static inline int breakwater_open_process(int process) {
    return (int) syscall(SYS_pidfd_open, process, 0);
}
