/* Preloaded into the service to record its database's disk calls, let them fail, and set the clock.

   STRESS_DATABASE  the database file; only calls on it, its -wal and its -journal are considered
   STRESS_JOURNAL   a file to which each successful write (with data), truncation and sync is
                    appended
   STRESS_FAULT     a file of four 64-bit numbers, shared by all processes: the calls that fail
                    (a bit set of KIND_*), how many of them succeed before, how many fail, and errno
   STRESS_CLOCK     a file of one 64-bit number: seconds by which the wall clock is ahead */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { KIND_WRITE = 1, KIND_SYNC = 2, KIND_TRUNCATE = 4 };

struct record {
    uint32_t kind;
    uint32_t file; /* 0: database, 1: write-ahead log, 2: rollback journal */
    uint64_t offset;
    uint64_t length;
};

struct fault {
    uint64_t kinds;
    int64_t successes;
    int64_t failures;
    int64_t error;
};

static const char *const SUFFIXES[] = {"", "-wal", "-journal"};
static const char *database;
static int journal = -1;
static struct fault *fault;
static volatile int64_t *ahead_s;

static void *shared(const char *variable, size_t size) {
    const char *path = getenv(variable);
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return NULL;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    return memory == MAP_FAILED ? NULL : memory;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("STRESS_JOURNAL");
    database = getenv("STRESS_DATABASE");
    if (path) journal = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    fault = shared("STRESS_FAULT", sizeof *fault);
    ahead_s = shared("STRESS_CLOCK", sizeof *ahead_s);
}

/* The number of the database file behind a descriptor; -1 for other files. */
static int which(int file) {
    char link[64], path[PATH_MAX];
    if (!database) return -1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return -1;
    path[length] = 0;
    size_t stem = strlen(database);
    if (strncmp(path, database, stem)) return -1;
    for (int number = 0; number < 3; number++)
        if (!strcmp(path + stem, SUFFIXES[number])) return number;
    return -1;
}

/* Whether this call must fail; then errno is set. */
static int fails(int number, uint64_t kind) {
    if (number < 0 || !fault || !(fault->kinds & kind)) return 0;
    if (__atomic_fetch_sub(&fault->successes, 1, __ATOMIC_SEQ_CST) > 0) return 0;
    if (__atomic_fetch_sub(&fault->failures, 1, __ATOMIC_SEQ_CST) <= 0) return 0;
    errno = (int)fault->error;
    return 1;
}

/* Append a record with a single call, because other processes append too. */
static void note(uint32_t kind, int number, uint64_t offset, const void *data, uint64_t length) {
    if (journal < 0 || number < 0) return;
    int kept = errno;
    struct record record = {kind, (uint32_t)number, offset, length};
    struct iovec parts[] = {{&record, sizeof record}, {(void *)data, data ? length : 0}};
    if (writev(journal, parts, 2) < 0) abort();
    errno = kept;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pwrite64(int file, const void *data, size_t length, off64_t offset) {
    static __typeof__(&pwrite64) real;
    if (!real) real = REAL(pwrite64);
    int number = which(file);
    if (fails(number, KIND_WRITE)) return -1;
    ssize_t written = real(file, data, length, offset);
    if (written > 0) note(KIND_WRITE, number, (uint64_t)offset, data, (uint64_t)written);
    return written;
}

ssize_t pwrite(int file, const void *data, size_t length, off_t offset) {
    return pwrite64(file, data, length, offset);
}

ssize_t write(int file, const void *data, size_t length) {
    static __typeof__(&write) real;
    if (!real) real = REAL(write);
    int number = file == journal ? -1 : which(file);
    if (number < 0) return real(file, data, length);
    if (fails(number, KIND_WRITE)) return -1;
    off64_t offset = lseek64(file, 0, SEEK_CUR);
    ssize_t written = real(file, data, length);
    if (written > 0) note(KIND_WRITE, number, (uint64_t)offset, data, (uint64_t)written);
    return written;
}

int ftruncate64(int file, off64_t length) {
    static __typeof__(&ftruncate64) real;
    if (!real) real = REAL(ftruncate64);
    int number = which(file);
    if (fails(number, KIND_TRUNCATE)) return -1;
    int result = real(file, length);
    if (!result) note(KIND_TRUNCATE, number, (uint64_t)length, NULL, 0);
    return result;
}

int ftruncate(int file, off_t length) { return ftruncate64(file, length); }

static int sync_with(int (*real)(int), int file) {
    int number = which(file);
    if (fails(number, KIND_SYNC)) return -1;
    int result = real(file);
    if (!result) note(KIND_SYNC, number, 0, NULL, 0);
    return result;
}

int fsync(int file) { return sync_with(REAL(fsync), file); }
int fdatasync(int file) { return sync_with(REAL(fdatasync), file); }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static __typeof__(&clock_gettime) real;
    if (!real) real = REAL(clock_gettime);
    int result = real(clock, now);
    int is_wall_clock = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
    if (!result && ahead_s && is_wall_clock) now->tv_sec += *ahead_s;
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    typedef int (*function)(struct timeval *restrict, void *restrict);
    static function real;
    if (!real) real = (function)dlsym(RTLD_NEXT, "gettimeofday");
    int result = real(now, zone);
    if (!result && ahead_s) now->tv_sec += *ahead_s;
    return result;
}

time_t time(time_t *where) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (where) *where = now.tv_sec;
    return now.tv_sec;
}
