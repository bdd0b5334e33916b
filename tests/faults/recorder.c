// Loaded with LD_PRELOAD: writes down every change that the process makes below a folder, in its order, with every
// fsync; power.py replays it. Environment: RECORD_FOLDER (absolute), RECORD_LOG (where there is none, nothing is written
// down). It can also let one of the changes fail, or one of the fsyncs, counted from 0: fail(number, number of
// the fsync, errno), -1 for none; errors.py does.
//
// A record: one byte of kind, u32 length of path, u32 length of second path, i64 number, u32 length of data, then the
// three. Kinds: w write (number: offset), t truncate (number: size), s fsync of a file, d fsync of a folder, c create,
// u unlink, r rename, l link, m mkdir, x rmdir.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int logged = -1;
static char folder[PATH_MAX];
static size_t folder_length;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static long failing = -1, failing_sync = -1, changes = 0, syncs = 0;
static int failure = 0;

void fail(long at, long at_sync, int error) { failing = at; failing_sync = at_sync; failure = error; changes = syncs = 0; }
long changed(void) { return changes; }
long synced_so_far(void) { return syncs; }

// A removal is about to be made; whether it fails. A full disk does not keep it from being made.
static int removal_fails(int inside_folder);

// The same of any other change.
static int fails(int inside_folder) {
    if (!inside_folder || __atomic_fetch_add(&changes, 1, __ATOMIC_SEQ_CST) != failing) return 0;
    errno = failure;
    return 1;
}

static int removal_fails(int inside_folder) { return failure != ENOSPC && fails(inside_folder); }

__attribute__((constructor)) static void begin(void) {
    const char *where = getenv("RECORD_FOLDER"), *log = getenv("RECORD_LOG");
    if (!where) return;
    strncpy(folder, where, PATH_MAX - 1);
    folder_length = strlen(folder);
    if (log) logged = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static int inside(const char *path) { return folder_length && strncmp(path, folder, folder_length) == 0; }

static int of_descriptor(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

static int of_name(int at, const char *name, char *path) {
    if (name[0] == '/') { strncpy(path, name, PATH_MAX - 1); return inside(path); }
    char base[PATH_MAX];
    if (at == AT_FDCWD) { if (!getcwd(base, sizeof base)) return 0; }
    else if (!of_descriptor(at, base)) return 0;
    if (strlen(base) + strlen(name) + 2 > PATH_MAX) abort();
    strcat(strcat(strcpy(path, base), "/"), name);
    return inside(path);
}

static void note(char kind, const char *path, const char *second, int64_t number, const void *data, uint32_t size) {
    if (logged < 0) return;
    int kept = errno;
    uint32_t one = strlen(path), two = second ? strlen(second) : 0;
    char head[21];
    head[0] = kind;
    memcpy(head + 1, &one, 4); memcpy(head + 5, &two, 4); memcpy(head + 9, &number, 8); memcpy(head + 17, &size, 4);
    struct iovec parts[4] = {{head, 21}, {(void *)path, one}, {(void *)second, two}, {(void *)data, size}};
    pthread_mutex_lock(&lock);
    if (REAL(writev)(logged, parts, 4) != (ssize_t)(21 + one + two + size)) abort();
    pthread_mutex_unlock(&lock);
    errno = kept;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    char path[PATH_MAX];
    int wanted = descriptor != logged && of_descriptor(descriptor, path);
    if (fails(wanted)) return -1;
    off_t at = wanted ? lseek(descriptor, 0, SEEK_CUR) : 0;
    ssize_t done = REAL(write)(descriptor, data, size);
    if (wanted && done > 0) note('w', path, NULL, at, data, done);
    return done;
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t at) {
    char path[PATH_MAX];
    int wanted = of_descriptor(descriptor, path);
    if (fails(wanted)) return -1;
    ssize_t done = REAL(pwrite)(descriptor, data, size, at);
    if (done > 0 && wanted) note('w', path, NULL, at, data, done);
    return done;
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t at) { return pwrite(descriptor, data, size, at); }

int ftruncate(int descriptor, off_t size) {
    char path[PATH_MAX];
    int wanted = of_descriptor(descriptor, path);
    if (fails(wanted)) return -1;
    int done = REAL(ftruncate)(descriptor, size);
    if (done == 0 && wanted) note('t', path, NULL, size, NULL, 0);
    return done;
}

int ftruncate64(int descriptor, off64_t size) { return ftruncate(descriptor, size); }

static int synced(int descriptor, int (*sync)(int)) {
    char path[PATH_MAX];
    struct stat what;
    int wanted = of_descriptor(descriptor, path);
    if (wanted && __atomic_fetch_add(&syncs, 1, __ATOMIC_SEQ_CST) == failing_sync) { errno = failure; return -1; }
    if (fails(wanted)) return -1;
    int done = sync(descriptor);
    if (done == 0 && wanted && fstat(descriptor, &what) == 0)
        note(S_ISDIR(what.st_mode) ? 'd' : 's', path, NULL, 0, NULL, 0);
    return done;
}

int fsync(int descriptor) { return synced(descriptor, REAL(fsync)); }
int fdatasync(int descriptor) { return synced(descriptor, REAL(fdatasync)); }

static int opened(int at, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    struct stat what;
    int wanted = (flags & O_ACCMODE) != O_RDONLY && of_name(at, name, path);
    int fresh = wanted && (flags & O_CREAT) && fstatat(at, name, &what, 0) != 0;
    if (fails(wanted)) return -1;
    int found = REAL(openat)(at, name, flags, mode);
    if (found >= 0 && fresh) note('c', path, NULL, 0, NULL, 0);
    if (found >= 0 && wanted && !fresh && (flags & O_TRUNC)) note('t', path, NULL, 0, NULL, 0);
    return found;
}

#define MODE mode_t mode = 0; if (flags & O_CREAT) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); }
int open(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags, mode); }
int open64(const char *name, int flags, ...) { MODE return opened(AT_FDCWD, name, flags | O_LARGEFILE, mode); }
int openat(int at, const char *name, int flags, ...) { MODE return opened(at, name, flags, mode); }
int openat64(int at, const char *name, int flags, ...) { MODE return opened(at, name, flags | O_LARGEFILE, mode); }

int unlink(const char *name) {
    char path[PATH_MAX];
    int wanted = of_name(AT_FDCWD, name, path);
    if (removal_fails(wanted)) return -1;
    int done = REAL(unlink)(name);
    if (done == 0 && wanted) note('u', path, NULL, 0, NULL, 0);
    return done;
}

int unlinkat(int at, const char *name, int flags) {
    char path[PATH_MAX];
    int wanted = of_name(at, name, path);
    if (removal_fails(wanted)) return -1;
    int done = REAL(unlinkat)(at, name, flags);
    if (done == 0 && wanted) note(flags & AT_REMOVEDIR ? 'x' : 'u', path, NULL, 0, NULL, 0);
    return done;
}

int rmdir(const char *name) {
    char path[PATH_MAX];
    int wanted = of_name(AT_FDCWD, name, path);
    if (removal_fails(wanted)) return -1;
    int done = REAL(rmdir)(name);
    if (done == 0 && wanted) note('x', path, NULL, 0, NULL, 0);
    return done;
}

int mkdir(const char *name, mode_t mode) {
    char path[PATH_MAX];
    int wanted = of_name(AT_FDCWD, name, path);
    if (fails(wanted)) return -1;
    int done = REAL(mkdir)(name, mode);
    if (done == 0 && wanted) note('m', path, NULL, 0, NULL, 0);
    return done;
}

int rename(const char *from, const char *to) {
    char path[PATH_MAX], second[PATH_MAX];
    int wanted = of_name(AT_FDCWD, from, path) && of_name(AT_FDCWD, to, second);
    if (fails(wanted)) return -1;
    int done = REAL(rename)(from, to);
    if (done == 0 && wanted) note('r', path, second, 0, NULL, 0);
    return done;
}

static int linked(int at, const char *from, int other, const char *to, int flags) {
    char path[PATH_MAX], second[PATH_MAX];
    int wanted = of_name(at, from, path) && of_name(other, to, second);
    if (fails(wanted)) return -1;
    int done = REAL(linkat)(at, from, other, to, flags);
    if (done == 0 && wanted) note('l', path, second, 0, NULL, 0);
    return done;
}

int link(const char *from, const char *to) { return linked(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int at, const char *from, int other, const char *to, int flags) { return linked(at, from, other, to, flags); }
