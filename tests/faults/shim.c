/*
 * Faults below the program: preloaded into it (LD_PRELOAD), this fails chosen system calls, kills the process at one of them, shows it
 * another file in the place of one, or another time.
 *
 * Not every library goes through libc (`tempfile` renames by a system call of its own), so calls are caught where all of them pass:
 * seccomp(2) traps them, and the handler of the trap decides what comes of each. Only the clock is read without a system call (vDSO);
 * that one is replaced by name.
 *
 * FAULT_LOG    file that gets one line per fault: number, call, path
 * FAULT_UNDER  folders, separated by colons: calls that write below them are counted, from 1
 * FAULT_KIND   enospc, eio, erofs, eintr: the call fails so; short: a write takes a few bytes; kill: the process dies, a write half done;
 *              pause: the call waits until FAULT_GATE is there, for ten minutes at most; count: nothing happens, but every call is logged
 * FAULT_FIRST  number of the first call concerned, 1 by default
 * FAULT_LAST   number of the last one; 0, the default, is no end
 * FAULT_GATE   file that calls wait for which pause
 * FAULT_SWAP   FROM=TO: opening FROM opens TO
 * FAULT_CLOCK  past (1901), future (2300), back (each look at a clock finds it an hour earlier), still, ahead (each an hour later)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
#define CONTEXT_ARGUMENT(context, index) ((context)->uc_mcontext.gregs[(int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8}[index]])
#define CONTEXT_RESULT(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define CONTEXT_ARGUMENT(context, index) ((context)->uc_mcontext.regs[index])
#define CONTEXT_RESULT(context) ((context)->uc_mcontext.regs[0])
#else
#error "the registers of this processor are not known here"
#endif

/* The sixth argument of calls that the shim makes itself; none of those caught has one. */
#define OURS 0x7a11e57e

enum { PATHS = 2 * PATH_MAX };
enum kind { NONE, COUNT, FAIL, INTERRUPT, SHORT, PAUSE, KILL };
enum shape { WRITES, VECTORS, DESCRIPTOR, PATH, PATH_AT, TO, TO_AT, OPEN, OPEN_AT };

static const struct caught {
    long number;
    enum shape shape;
    const char *name;
} CAUGHT[] = {
#ifdef __NR_open
    {__NR_open, OPEN, "open"},
    {__NR_creat, PATH, "open"},
    {__NR_mkdir, PATH, "mkdir"},
    {__NR_rename, TO, "rename"},
    {__NR_link, TO, "link"},
    {__NR_symlink, TO, "link"},
#endif
    {__NR_openat, OPEN_AT, "open"},
    {__NR_mkdirat, PATH_AT, "mkdir"},
#ifdef __NR_renameat
    {__NR_renameat, TO_AT, "rename"},
#endif
    {__NR_renameat2, TO_AT, "rename"},
    {__NR_linkat, TO_AT, "link"},
    {__NR_write, WRITES, "write"},
    {__NR_pwrite64, WRITES, "write"},
    {__NR_writev, VECTORS, "write"},
    {__NR_pwritev, VECTORS, "write"},
    {__NR_fsync, DESCRIPTOR, "sync"},
    {__NR_fdatasync, DESCRIPTOR, "sync"},
    {__NR_ftruncate, DESCRIPTOR, "truncate"},
    {__NR_fallocate, DESCRIPTOR, "allocate"},
};
enum { CALLS = sizeof CAUGHT / sizeof CAUGHT[0] };

static enum kind kind;
static int failure, log_file = -1;
static unsigned long first = 1, last;
static const char *under, *swap_to, *gate;
static char swap_from[PATH_MAX];
static atomic_ulong calls;

static long ours(long number, long a, long b, long c, long d, long e) {
    int before = errno;
    long result = syscall(number, a, b, c, d, e, OURS);
    if (result < 0)
        result = -errno;
    errno = before;
    return result;
}

/* Neither allocates nor locks: the call that is caught may be made in the middle of either. */
static void note(unsigned long number, const char *call, const char *path) {
    char line[PATHS + 64], digits[24];
    size_t length = 0, count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        line[length++] = digits[--count];
    for (const char *part[] = {" ", call, " ", path, "\n", 0}, **each = part; *each; each++) {
        size_t size = strlen(*each);
        if (length + size > sizeof line)
            break;
        memcpy(line + length, *each, size);
        length += size;
    }
    ours(__NR_write, log_file, (long)line, (long)length, 0, 0);
}

static int is_counted(const char *path) {
    for (const char *folder = under; folder && *folder;) {
        size_t length = strcspn(folder, ":");
        if (length && !strncmp(path, folder, length) && (path[length] == '/' || !path[length] || folder[length - 1] == '/'))
            return 1;
        folder += length + (folder[length] == ':');
    }
    return 0;
}

static void decimal(char *at, long number) {
    char digits[24];
    int count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    while (count)
        *at++ = digits[--count];
    *at = 0;
}

/* Where an open descriptor leads; an empty path if nowhere. */
static void descriptor_path(long descriptor, char *path) {
    char link[64] = "/proc/self/fd/";
    path[0] = 0;
    if (descriptor < 0)
        return;
    decimal(link + strlen(link), descriptor);
    long length = ours(__NR_readlinkat, AT_FDCWD, (long)link, (long)path, PATH_MAX - 1, 0);
    path[length > 0 ? length : 0] = 0;
}

/* The absolute path of `name` below `folder`, a descriptor. */
static void path_at(long folder, const char *name, char *path) {
    path[0] = 0;
    if (!name)
        return;
    if (name[0] != '/') {
        if ((int)folder == AT_FDCWD) {
            long length = ours(__NR_readlinkat, AT_FDCWD, (long)"/proc/self/cwd", (long)path, PATH_MAX - 1, 0);
            path[length > 0 ? length : 0] = 0;
        } else {
            descriptor_path(folder, path);
        }
        strcat(path, "/");
    }
    strncat(path, name, PATH_MAX - 1);
}

/* What the call writes to; an empty path if it does not write. */
static void target(enum shape shape, const long *argument, char *path) {
    path[0] = 0;
    switch (shape) {
    case WRITES:
    case VECTORS:
    case DESCRIPTOR:
        descriptor_path(argument[0], path);
        return;
    case PATH:
        path_at(AT_FDCWD, (const char *)argument[0], path);
        return;
    case PATH_AT:
        path_at(argument[0], (const char *)argument[1], path);
        return;
    case TO:
        path_at(AT_FDCWD, (const char *)argument[1], path);
        return;
    case TO_AT:
        path_at(argument[2], (const char *)argument[3], path);
        return;
    case OPEN:
        if (argument[1] & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
            path_at(AT_FDCWD, (const char *)argument[0], path);
        return;
    case OPEN_AT:
        if (argument[2] & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC))
            path_at(argument[0], (const char *)argument[1], path);
        return;
    }
}

/* Writes `bytes` at most, of the first buffer. */
static long write_some(const struct caught *call, const long *argument, size_t bytes) {
    if (call->shape == WRITES) {
        size_t length = (size_t)argument[2];
        return ours(call->number, argument[0], argument[1], (long)(length < bytes ? length : bytes), argument[3], argument[4]);
    }
    const struct iovec *vectors = (const struct iovec *)argument[1];
    long count = argument[2], index = 0;
    while (index < count && vectors[index].iov_len == 0)
        index++;
    struct iovec some = {0};
    if (index < count) {
        some = vectors[index];
        if (some.iov_len > bytes)
            some.iov_len = bytes;
    }
    return ours(call->number, argument[0], (long)&some, 1, argument[3], argument[4]);
}

static long whole(const struct caught *call, const long *argument) {
    return ours(call->number, argument[0], argument[1], argument[2], argument[3], argument[4]);
}

static size_t length_of(const struct caught *call, const long *argument) {
    if (call->shape == WRITES)
        return (size_t)argument[2];
    size_t length = 0;
    const struct iovec *vectors = (const struct iovec *)argument[1];
    for (long index = 0; index < argument[2]; index++)
        length += vectors[index].iov_len;
    return length;
}

static long decide(const struct caught *call, const long *argument) {
    char path[PATHS];
    int is_write = call->shape == WRITES || call->shape == VECTORS;
    if (swap_to && call->shape == OPEN_AT && !strcmp((const char *)argument[1], swap_from)) {
        note(0, "swap", swap_from);
        return ours(call->number, argument[0], (long)swap_to, argument[2], argument[3], 0);
    }
    target(call->shape, argument, path);
    if (kind == NONE || !path[0] || !is_counted(path))
        return whole(call, argument);
    unsigned long number = atomic_fetch_add(&calls, 1) + 1;
    if (number < first || (last && number > last))
        return whole(call, argument);
    switch (kind) {
    case COUNT:
        note(number, call->name, path);
        return whole(call, argument);
    case FAIL:
        note(number, call->name, path);
        /* A disk that fills up takes the beginning of a write before it takes nothing any more. */
        if (failure == ENOSPC && is_write && number == first && !last && length_of(call, argument) > 1)
            return write_some(call, argument, length_of(call, argument) / 2);
        return -failure;
    case INTERRUPT:
        /* Every other call, so that a second attempt succeeds. */
        if (number % 2 == 0 || !(is_write || call->shape == OPEN || call->shape == OPEN_AT || call->shape == DESCRIPTOR))
            return whole(call, argument);
        note(number, call->name, path);
        return -EINTR;
    case SHORT:
        if (!is_write || length_of(call, argument) < 2)
            return whole(call, argument);
        note(number, call->name, path);
        return write_some(call, argument, 1 + length_of(call, argument) / 2 % 1021);
    case PAUSE:
        note(number, call->name, path);
        for (int wait = 0; wait < 120000 && gate && ours(__NR_faccessat, AT_FDCWD, (long)gate, F_OK, 0, 0); wait++)
            ours(__NR_nanosleep, (long)&(struct timespec){.tv_nsec = 5000000}, 0, 0, 0, 0);
        return whole(call, argument);
    case KILL:
        note(number, call->name, path);
        if (is_write)
            write_some(call, argument, (length_of(call, argument) + 1) / 2);
        ours(__NR_kill, ours(__NR_getpid, 0, 0, 0, 0, 0), SIGKILL, 0, 0, 0);
        return -EIO;
    case NONE:
        break;
    }
    return whole(call, argument);
}

static void trapped(int signal, siginfo_t *info, void *opaque) {
    (void)signal;
    ucontext_t *context = opaque;
    long argument[5];
    for (int index = 0; index < 5; index++)
        argument[index] = (long)CONTEXT_ARGUMENT(context, index);
    long result = -ENOSYS;
    for (size_t index = 0; index < CALLS; index++)
        if (CAUGHT[index].number == info->si_syscall)
            result = decide(&CAUGHT[index], argument);
    CONTEXT_RESULT(context) = result;
}

/* Clocks: realtime is set, and both are moved from look to look. */

static enum { TRUE_TIME, PAST, FUTURE, BACK, STILL, AHEAD } clock_kind;
static atomic_long looks;

static void shift(clockid_t clock, struct timespec *time) {
    static const long HOUR = 3600;
    int is_date = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    long look = atomic_fetch_add(&looks, 1);
    if (look == 0 && log_file >= 0)
        note(1, "clock", is_date ? "realtime" : "monotonic");
    switch (clock_kind) {
    case PAST:
        if (is_date)
            time->tv_sec = -2177452800; /* 1901-01-01 */
        return;
    case FUTURE:
        if (is_date)
            time->tv_sec = 10413792000; /* 2300-01-01 */
        return;
    case BACK:
        time->tv_sec -= look * HOUR;
        return;
    case STILL:
        time->tv_sec = 1000000000;
        time->tv_nsec = 0;
        return;
    case AHEAD:
        time->tv_sec += look * HOUR;
        return;
    case TRUE_TIME:
        return;
    }
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    long result = ours(__NR_clock_gettime, clock, (long)time, 0, 0, 0);
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    int is_wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_MONOTONIC
        || clock == CLOCK_MONOTONIC_COARSE || clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME;
    if (clock_kind != TRUE_TIME && is_wall)
        shift(clock, time);
    return 0;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *place) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (place)
        *place = now.tv_sec;
    return now.tv_sec;
}

static unsigned long number_in(const char *variable, unsigned long otherwise) {
    const char *text = getenv(variable);
    return text && *text ? strtoul(text, 0, 10) : otherwise;
}

static void trap(void) {
    struct sigaction action = {.sa_sigaction = trapped, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (sigaction(SIGSYS, &action, 0))
        _exit(99);
    struct sock_filter filter[CALLS + 6];
    size_t length = 0;
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t index = 0; index < CALLS; index++)
        filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)CAUGHT[index].number, (uint8_t)(CALLS - index), 0);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[5]));
    filter[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OURS, 0, 1);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    struct sock_fprog program = {(unsigned short)length, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(99);
}

__attribute__((constructor)) static void begin(void) {
    static const char *const CLOCKS[] = {"", "past", "future", "back", "still", "ahead"};
    static const struct {
        const char *name;
        enum kind kind;
        int failure;
    } KINDS[] = {
        {"count", COUNT, 0}, {"enospc", FAIL, ENOSPC}, {"eio", FAIL, EIO},   {"erofs", FAIL, EROFS},
        {"eintr", INTERRUPT, 0}, {"short", SHORT, 0}, {"pause", PAUSE, 0}, {"kill", KILL, 0},
    };
    const char *log = getenv("FAULT_LOG"), *named = getenv("FAULT_KIND"), *clock = getenv("FAULT_CLOCK"), *swap = getenv("FAULT_SWAP");
    if (!log)
        return;
    log_file = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_file < 0)
        _exit(99);
    under = getenv("FAULT_UNDER");
    gate = getenv("FAULT_GATE");
    first = number_in("FAULT_FIRST", 1);
    last = number_in("FAULT_LAST", 0);
    for (size_t index = 0; named && index < sizeof KINDS / sizeof KINDS[0]; index++)
        if (!strcmp(named, KINDS[index].name)) {
            kind = KINDS[index].kind;
            failure = KINDS[index].failure;
        }
    for (int index = 1; clock && index < 6; index++)
        if (!strcmp(clock, CLOCKS[index]))
            clock_kind = index;
    const char *between = swap ? strchr(swap, '=') : 0;
    if (between && (size_t)(between - swap) < sizeof swap_from) {
        memcpy(swap_from, swap, (size_t)(between - swap));
        swap_to = between + 1;
    }
    if (kind != NONE || swap_to)
        trap();
}
