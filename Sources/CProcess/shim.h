#pragma once
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

/// Makes a pipe whose ends no program inherits. Both are above the standard streams, because a program's streams are
/// made of them. 0, or an error number.
static inline int breakwater_make_pipe(int ends[2]) {
    if (pipe2(ends, O_CLOEXEC) < 0) return errno;
    for (int i = 0; i < 2; i++) {
        if (ends[i] > STDERR_FILENO) continue;
        int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        if (moved < 0) {
            int error = errno;
            close(ends[0]);
            close(ends[1]);
            return error;
        }
        close(ends[i]);
        ends[i] = moved;
    }
    return 0;
}

/// Lets a process that is to be started have none of the descriptors from this one on. Glibc declares the function only for
/// GNU sources.
static inline int breakwater_close_from(posix_spawn_file_actions_t *actions, int first) {
    return posix_spawn_file_actions_addclosefrom_np(actions, first);
}

/// Starts a program in a session of its own, with these descriptors as its descriptors from 0 on, no others, and the
/// default handling of signals. 0, or an error number.
static inline int breakwater_start_program(
    const char *path, char *const arguments[], char *const environment[], const char *directory, const int streams[],
    int count, pid_t *process
) {
    // POSIX_SPAWN_SETSID of glibc and musl, which they define only for GNU sources.
    const short set_session = 0x80;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t signals;
    int error = posix_spawn_file_actions_init(&actions);
    if (error != 0) return error;
    error = posix_spawnattr_init(&attributes);
    if (error != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return error;
    }
    for (int i = 0; i < count && error == 0; i++) error = posix_spawn_file_actions_adddup2(&actions, streams[i], i);
    if (error == 0) error = posix_spawn_file_actions_addclosefrom_np(&actions, count);
    if (error == 0 && directory != NULL) error = posix_spawn_file_actions_addchdir_np(&actions, directory);
    sigemptyset(&signals);
    if (error == 0) error = posix_spawnattr_setsigmask(&attributes, &signals);
    sigfillset(&signals);
    sigdelset(&signals, SIGKILL);
    sigdelset(&signals, SIGSTOP);
    if (error == 0) error = posix_spawnattr_setsigdefault(&attributes, &signals);
    if (error == 0) {
        error = posix_spawnattr_setflags(
            &attributes, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | set_session)
        );
    }
    if (error == 0) error = posix_spawn(process, path, &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return error;
}

/// Ends the ignoring of SIGCHLD, with which the system discards the exit statuses of programs.
static inline void breakwater_wait_for_children(void) {
    struct sigaction action;
    if (sigaction(SIGCHLD, NULL, &action) == 0 && action.sa_handler == SIG_IGN) signal(SIGCHLD, SIG_DFL);
}

/// Waits for one of a set of descriptors.
static inline int breakwater_watch(int set, int operation, int descriptor, uint32_t events, uint64_t name) {
    struct epoll_event event = {.events = events, .data = {.u64 = name}};
    return epoll_ctl(set, operation, descriptor, &event);
}

/// The names of the descriptors that are ready, at most `count`; -1 with errno.
static inline int breakwater_wait(int set, uint64_t names[], int count, int milliseconds) {
    struct epoll_event events[64];
    int ready = epoll_wait(set, events, count < 64 ? count : 64, milliseconds);
    for (int i = 0; i < ready; i++) names[i] = events[i].data.u64;
    return ready;
}

/// Makes reads from and writes to this descriptor return instead of wait. 0, or -1 with errno.
static inline int breakwater_never_block(int descriptor) {
    int flags = fcntl(descriptor, F_GETFL);
    return flags < 0 ? -1 : fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
}

/// A set of descriptors to wait for, or -1 with errno.
static inline int breakwater_make_set(void) { return epoll_create1(EPOLL_CLOEXEC); }

/// A descriptor by which one thread wakes another, or -1 with errno.
static inline int breakwater_make_event(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
