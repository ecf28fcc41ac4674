// Preloaded into what runs under ThreadSanitizer: tells it of Swift's `Mutex` when somebody had to wait for it.
//
// The quick way in and out of a `Mutex` is compiled into its user, where ThreadSanitizer sees it. When it is contended, the
// kernel hands it over (FUTEX_LOCK_PI), called from the Synchronization library, which is not instrumented: without this,
// whatever the lock protects would look like a race.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>

#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context)) void *

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

// Of ThreadSanitizer's own library, if it is there.
extern __attribute__((weak)) void __tsan_acquire(void *);
extern __attribute__((weak)) void __tsan_release(void *);

SWIFT void lock_slow(uint32_t thread, SELF mutex) __asm__(LOCK_SLOW);
SWIFT void unlock_slow(SELF mutex) __asm__(UNLOCK_SLOW);

typedef SWIFT void (*LockSlow)(uint32_t, SELF);
typedef SWIFT void (*UnlockSlow)(SELF);

SWIFT void lock_slow(uint32_t thread, SELF mutex)
{
    static _Atomic(LockSlow) found;
    LockSlow real = found;
    if (!real) found = real = (LockSlow)dlsym(RTLD_NEXT, LOCK_SLOW);
    real(thread, mutex);
    if (__tsan_acquire) __tsan_acquire(mutex);
}

SWIFT void unlock_slow(SELF mutex)
{
    static _Atomic(UnlockSlow) found;
    UnlockSlow real = found;
    if (!real) found = real = (UnlockSlow)dlsym(RTLD_NEXT, UNLOCK_SLOW);
    if (__tsan_release) __tsan_release(mutex);
    real(mutex);
}
