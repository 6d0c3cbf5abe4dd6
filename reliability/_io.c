/* The calls by which a process changes the files below one directory: recorded, made to fail, or its last.

Loaded with LD_PRELOAD in front of the C library. Until iofaults_watch() names a directory every call passes through.
A watched process does not wait for its disk: syncs are noted and answered, not carried out, as no test here takes the
power away; what a disk would hold is worked out from the record.

What does not pass here: a FILE of the C library (RocksDB's LOG), writes through a map (LMDB's lock file), sendfile and
copy_file_range, which neither engine uses on its data. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define DESCRIPTORS 4096
#define REAL(name)                                                                                                     \
    ({                                                                                                                 \
        static __typeof__(&name) found;                                                                                \
        if (!found)                                                                                                    \
            found = real(#name);                                                                                       \
        found;                                                                                                         \
    })

enum { CREATE = 1, WRITE, SYNC, SYNC_RANGE, TRUNCATE, RENAME, UNLINK, MKDIR, RMDIR, LINK, MAPPED, MARK, CALL };
enum { PASS, KILL_BEFORE, KILL_HALFWAY, KILL_AFTER, FAIL, FAIL_HALFWAY };

typedef struct {
    char *path; /* NULL: not watched */
    uint64_t inode;
    int synchronous; /* opened with O_DSYNC or O_SYNC */
} Open;

typedef struct {
    int64_t kind, inode, first, second, path_length, data_length;
} Header;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static Open opened[DESCRIPTORS];
static char watched[PATH_MAX];
static size_t watched_length;
static int record = -1;
static int64_t records, calls, trip_at = -1, room = -1;
static int trip_what, trip_error, tripped_on = -1;
static char tripped[PATH_MAX + 64];

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

/* ---------------------------------------------------------------- control */

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length) {
        ssize_t done = REAL(write)(record, at, length);
        if (done <= 0)
            abort();
        at += done;
        length -= (size_t)done;
    }
}

static void note(int kind, uint64_t inode, int64_t first, int64_t second, const char *path, const struct iovec *parts,
                 size_t length) {
    if (record < 0)
        return;
    Header header = {kind, (int64_t)inode, first, second, path ? (int64_t)strlen(path) : 0, (int64_t)length};
    put(&header, sizeof header);
    if (path)
        put(path, strlen(path));
    for (size_t left = length; left; parts++) {
        size_t part = parts->iov_len < left ? parts->iov_len : left;
        put(parts->iov_base, part);
        left -= part;
    }
    records++;
}

void iofaults_watch(const char *directory, const char *log) {
    memset(opened, 0, sizeof opened);
    snprintf(watched, sizeof watched, "%s/", directory);
    watched_length = strlen(watched);
    records = calls = 0;
    trip_at = room = -1;
    tripped[0] = 0;
    struct stat status;
    record = log ? REAL(open)(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    if (record >= 0 && !stat(directory, &status))
        note(MKDIR, status.st_ino, 0, 0, directory, NULL, 0);
}

void iofaults_mark(int64_t number) {
    pthread_mutex_lock(&mutex);
    note(MARK, 0, number, 0, NULL, NULL, 0);
    pthread_mutex_unlock(&mutex);
}

void iofaults_trip(int64_t at, int what, int error) {
    pthread_mutex_lock(&mutex);
    trip_at = at, trip_what = what, trip_error = error, tripped_on = -1;
    pthread_mutex_unlock(&mutex);
}

void iofaults_room(int64_t bytes) {
    pthread_mutex_lock(&mutex);
    room = bytes;
    pthread_mutex_unlock(&mutex);
}

int64_t iofaults_calls(void) { return calls; }
const char *iofaults_tripped(void) { return tripped; }

/* ---------------------------------------------------------------- helpers; the mutex is held from here on */

static int below(const char *path) { return watched_length && !strncmp(path, watched, watched_length); }

/* The absolute path, or 0 if it is not watched. */
static int resolve(int directory, const char *path, char *whole) {
    if (!watched_length || !path)
        return 0;
    if (path[0] == '/')
        snprintf(whole, PATH_MAX, "%s", path);
    else if (directory >= 0 && directory < DESCRIPTORS && opened[directory].path)
        snprintf(whole, PATH_MAX, "%s/%s", opened[directory].path, path);
    else
        return 0;
    size_t length = strlen(whole);
    while (length > 1 && whole[length - 1] == '/')
        whole[--length] = 0;
    return below(whole) || (length + 1 == watched_length && !strncmp(whole, watched, length));
}

static Open *watched_file(int descriptor) {
    return descriptor >= 0 && descriptor < DESCRIPTORS && opened[descriptor].path ? &opened[descriptor] : NULL;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

/* What is to happen to this call. */
static int next(const char *name, const char *path, int descriptor) {
    int64_t number = calls++;
    int what = PASS;
    char site[PATH_MAX + 64];
    snprintf(site, sizeof site, "%s %s", name, path + watched_length - (strlen(path) < watched_length));
    note(CALL, 0, 0, 0, site, NULL, 0);
    if (tripped_on >= 0 && descriptor == tripped_on) {
        what = FAIL; /* the call after a short write */
        tripped_on = -1;
    } else if (number == trip_at) {
        what = trip_what;
        strcpy(tripped, site);
        if (what == FAIL_HALFWAY && strstr(name, "write"))
            tripped_on = descriptor;
    }
    if (what == KILL_BEFORE)
        die();
    return what;
}

/* Done, unless the call was to be the last. */
static void end(int what) {
    if (what == KILL_AFTER || what == KILL_HALFWAY)
        die();
}

static int64_t size_of(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) ? 0 : status.st_size;
}

static int64_t size_at(const char *path) {
    struct stat status;
    return stat(path, &status) || status.st_nlink > 1 || !S_ISREG(status.st_mode) ? 0 : status.st_size;
}

/* ---------------------------------------------------------------- opening and closing */

static int open_any(int directory, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    pthread_mutex_lock(&mutex);
    if (!resolve(directory, path, whole)) {
        int descriptor = REAL(openat)(directory, path, flags, mode);
        if (descriptor >= 0 && descriptor < DESCRIPTORS)
            opened[descriptor].path = NULL;
        pthread_mutex_unlock(&mutex);
        return descriptor;
    }
    struct stat status;
    int creates = (flags & O_CREAT) && stat(whole, &status);
    int shortens = (flags & O_TRUNC) && !creates;
    int what = creates || shortens ? next("open", whole, -1) : PASS;
    int descriptor = -1, error = trip_error;
    if (what != FAIL && what != FAIL_HALFWAY) {
        if (shortens && room >= 0)
            room += size_at(whole);
        descriptor = REAL(openat)(directory, path, flags & ~(O_DSYNC | O_SYNC), mode);
        error = errno;
    }
    if (descriptor >= DESCRIPTORS)
        abort();
    if (descriptor >= 0) {
        fstat(descriptor, &status);
        free(opened[descriptor].path);
        opened[descriptor] = (Open){strdup(whole), status.st_ino, (flags & (O_DSYNC | O_SYNC)) != 0};
        if (creates)
            note(CREATE, status.st_ino, 0, 0, whole, NULL, 0);
        else if (shortens)
            note(TRUNCATE, status.st_ino, 0, 0, NULL, NULL, 0);
        end(what);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return descriptor;
}

#define OPEN(name, directory)                                                                                          \
    va_list more;                                                                                                      \
    va_start(more, flags);                                                                                             \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0;                                          \
    va_end(more);                                                                                                      \
    return open_any(directory, path, flags, mode);

int open(const char *path, int flags, ...) { OPEN(open, AT_FDCWD) }
int open64(const char *path, int flags, ...) { OPEN(open64, AT_FDCWD) }
int openat(int directory, const char *path, int flags, ...) { OPEN(openat, directory) }
int openat64(int directory, const char *path, int flags, ...) { OPEN(openat64, directory) }
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int close(int descriptor) {
    pthread_mutex_lock(&mutex);
    Open *file = watched_file(descriptor);
    if (file) {
        free(file->path);
        file->path = NULL;
        if (tripped_on == descriptor)
            tripped_on = -1;
    }
    int result = REAL(close)(descriptor);
    pthread_mutex_unlock(&mutex);
    return result;
}

void *mmap(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    pthread_mutex_lock(&mutex);
    Open *file = watched_file(descriptor);
    if (file && (flags & MAP_SHARED) && (protection & PROT_WRITE))
        note(MAPPED, file->inode, 0, 0, file->path, NULL, 0);
    pthread_mutex_unlock(&mutex);
    return REAL(mmap)(address, length, protection, flags, descriptor, offset);
}
void *mmap64(void *address, size_t length, int protection, int flags, int descriptor, off_t offset) {
    return mmap(address, length, protection, flags, descriptor, offset);
}

/* ---------------------------------------------------------------- writing */

/* Write at an offset, or where the descriptor stands (-1). */
static ssize_t write_any(const char *name, int descriptor, const struct iovec *parts, int count, off_t offset) {
    pthread_mutex_lock(&mutex);
    Open *file = watched_file(descriptor);
    if (!file) {
        pthread_mutex_unlock(&mutex);
        if (offset >= 0)
            return count == 1 ? REAL(pwrite)(descriptor, parts->iov_base, parts->iov_len, offset)
                              : REAL(pwritev)(descriptor, parts, count, offset);
        return count == 1 ? REAL(write)(descriptor, parts->iov_base, parts->iov_len)
                          : REAL(writev)(descriptor, parts, count);
    }
    size_t length = 0;
    for (int i = 0; i < count; i++)
        length += parts[i].iov_len;
    int64_t at = offset, size = size_of(descriptor);
    if (at < 0)
        at = REAL(fcntl)(descriptor, F_GETFL) & O_APPEND ? size : lseek(descriptor, 0, SEEK_CUR);
    int what = next(name, file->path, descriptor), error = trip_error;
    size_t wanted = length;
    if (what == KILL_HALFWAY || what == FAIL_HALFWAY)
        wanted = length / 2;
    int64_t grown = at + (int64_t)wanted - size;
    if (room >= 0 && grown > room) {
        wanted = grown - room < (int64_t)wanted ? wanted - (size_t)(grown - room) : 0;
        error = ENOSPC;
    }
    ssize_t done = -1;
    if (what != FAIL && (wanted || !length)) {
        /* Copied, so that a part of several buffers can be written at an offset with one call. */
        char *bytes = malloc(wanted + 1), *end_of = bytes;
        for (size_t left = wanted, i = 0; left; i++) {
            size_t part = parts[i].iov_len < left ? parts[i].iov_len : left;
            memcpy(end_of, parts[i].iov_base, part);
            end_of += part;
            left -= part;
        }
        done = offset >= 0 ? REAL(pwrite)(descriptor, bytes, wanted, offset) : REAL(write)(descriptor, bytes, wanted);
        error = errno;
        if (done > 0) {
            struct iovec whole = {bytes, (size_t)done};
            note(WRITE, file->inode, at, 0, NULL, &whole, (size_t)done);
            if (file->synchronous)
                note(SYNC_RANGE, file->inode, at, done, NULL, NULL, 0);
            if (room >= 0 && at + done > size)
                room -= at + done - size;
        }
        free(bytes);
    }
    end(what);
    pthread_mutex_unlock(&mutex);
    errno = error;
    return done;
}

ssize_t write(int descriptor, const void *bytes, size_t length) {
    struct iovec part = {(void *)bytes, length};
    return write_any("write", descriptor, &part, 1, -1);
}
ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset) {
    struct iovec part = {(void *)bytes, length};
    return write_any("pwrite", descriptor, &part, 1, offset);
}
ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off_t offset) {
    return pwrite(descriptor, bytes, length, offset);
}
ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    return write_any("writev", descriptor, parts, count, -1);
}
ssize_t pwritev(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return write_any("pwritev", descriptor, parts, count, offset);
}
ssize_t pwritev64(int descriptor, const struct iovec *parts, int count, off_t offset) {
    return write_any("pwritev", descriptor, parts, count, offset);
}

/* ---------------------------------------------------------------- syncing */

/* -1 and errno, or 0; *passed says whether the descriptor is none of those watched. */
static int sync_any(const char *name, int descriptor, int *passed) {
    pthread_mutex_lock(&mutex);
    Open *file = watched_file(descriptor);
    *passed = !file;
    int result = 0, error = 0;
    if (file) {
        int what = next(name, file->path, descriptor);
        if (what == FAIL || what == FAIL_HALFWAY)
            result = -1, error = trip_error;
        else
            note(SYNC, file->inode, records, 0, NULL, NULL, 0);
        end(what);
    }
    pthread_mutex_unlock(&mutex);
    if (result)
        errno = error;
    return result;
}

int fsync(int descriptor) {
    int passed, result = sync_any("fsync", descriptor, &passed);
    return passed ? REAL(fsync)(descriptor) : result;
}
int fdatasync(int descriptor) {
    int passed, result = sync_any("fdatasync", descriptor, &passed);
    return passed ? REAL(fdatasync)(descriptor) : result;
}
/* It neither waits for the disk's cache nor for the size of the file: counted, and no promise. */
int sync_file_range(int descriptor, off64_t offset, off64_t length, unsigned int flags) {
    pthread_mutex_lock(&mutex);
    Open *file = watched_file(descriptor);
    int what = file ? next("sync_file_range", file->path, descriptor) : PASS, error = trip_error;
    end(what);
    pthread_mutex_unlock(&mutex);
    if (what == FAIL || what == FAIL_HALFWAY) {
        errno = error;
        return -1;
    }
    return file ? 0 : REAL(sync_file_range)(descriptor, offset, length, flags);
}

/* ---------------------------------------------------------------- sizes */

int ftruncate(int descriptor, off_t length) {
    pthread_mutex_lock(&mutex);
    Open *file = watched_file(descriptor);
    int what = file ? next("ftruncate", file->path, descriptor) : PASS, result = -1, error = trip_error;
    if (what != FAIL && what != FAIL_HALFWAY) {
        int64_t size = file ? size_of(descriptor) : 0;
        result = REAL(ftruncate)(descriptor, length);
        error = errno;
        if (file && !result) {
            note(TRUNCATE, file->inode, length, 0, NULL, NULL, 0);
            if (room >= 0 && length < size)
                room += size - length;
        }
        end(what);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}
int ftruncate64(int descriptor, off64_t length) { return ftruncate(descriptor, length); }

/* Not offered, as on many file systems; what asks for it goes on without. */
int fallocate(int descriptor, int mode, off_t offset, off_t length) {
    if (!watched_file(descriptor))
        return REAL(fallocate)(descriptor, mode, offset, length);
    errno = EOPNOTSUPP;
    return -1;
}
int fallocate64(int descriptor, int mode, off64_t offset, off64_t length) {
    return fallocate(descriptor, mode, offset, length);
}

static void fill(const char *path, uint64_t *blocks, uint64_t *available, uint64_t unit) {
    char whole[PATH_MAX];
    pthread_mutex_lock(&mutex);
    if (room >= 0 && resolve(AT_FDCWD, path, whole))
        *blocks = *available = (uint64_t)room / (unit ? unit : 1);
    pthread_mutex_unlock(&mutex);
}
int statvfs(const char *path, struct statvfs *found) {
    int result = REAL(statvfs)(path, found);
    if (!result)
        fill(path, &found->f_bfree, &found->f_bavail, found->f_frsize);
    return result;
}
int statvfs64(const char *path, struct statvfs64 *found) { return statvfs(path, (struct statvfs *)found); }

/* ---------------------------------------------------------------- directories */

/* Calls on one name or two: whether to carry out, and then what happened. */
static int name_begin(const char *name, const char *whole, int *what) {
    *what = next(name, whole, -1);
    if (*what != FAIL && *what != FAIL_HALFWAY)
        return 1;
    errno = trip_error;
    return 0;
}

static int rename_any(int from, const char *old, int to, const char *new) {
    char whole[2 * PATH_MAX], other[PATH_MAX];
    pthread_mutex_lock(&mutex);
    int seen = resolve(from, old, whole) & resolve(to, new, other), what = PASS, result = -1;
    if (!seen || name_begin("rename", whole, &what)) {
        if (seen && room >= 0)
            room += size_at(other);
        result = REAL(renameat)(from, old, to, new);
    }
    int error = errno;
    if (seen && !result) {
        struct iovec second = {other, strlen(other)};
        note(RENAME, 0, 0, 0, whole, &second, second.iov_len);
        end(what);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}
int rename(const char *old, const char *new) { return rename_any(AT_FDCWD, old, AT_FDCWD, new); }
int renameat(int from, const char *old, int to, const char *new) { return rename_any(from, old, to, new); }

static int link_any(int from, const char *old, int to, const char *new, int flags) {
    char whole[PATH_MAX], other[PATH_MAX];
    pthread_mutex_lock(&mutex);
    int seen = resolve(from, old, whole) & resolve(to, new, other), what = PASS, result = -1;
    if (!seen || name_begin("link", whole, &what))
        result = REAL(linkat)(from, old, to, new, flags);
    int error = errno;
    if (seen && !result) {
        struct iovec second = {other, strlen(other)};
        note(LINK, 0, 0, 0, whole, &second, second.iov_len);
        end(what);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}
int link(const char *old, const char *new) { return link_any(AT_FDCWD, old, AT_FDCWD, new, 0); }
int linkat(int from, const char *old, int to, const char *new, int flags) {
    return link_any(from, old, to, new, flags);
}

static int unlink_any(int directory, const char *path, int flags) {
    char whole[PATH_MAX];
    pthread_mutex_lock(&mutex);
    int seen = resolve(directory, path, whole), what = PASS, result = -1;
    if (!seen || name_begin(flags & AT_REMOVEDIR ? "rmdir" : "unlink", whole, &what)) {
        int64_t size = seen && !(flags & AT_REMOVEDIR) ? size_at(whole) : 0;
        result = REAL(unlinkat)(directory, path, flags);
        if (!result && room >= 0)
            room += size;
    }
    int error = errno;
    if (seen && !result) {
        note(flags & AT_REMOVEDIR ? RMDIR : UNLINK, 0, 0, 0, whole, NULL, 0);
        end(what);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}
int unlink(const char *path) { return unlink_any(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlink_any(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int directory, const char *path, int flags) { return unlink_any(directory, path, flags); }

static int mkdir_any(int directory, const char *path, mode_t mode) {
    char whole[PATH_MAX];
    pthread_mutex_lock(&mutex);
    int seen = resolve(directory, path, whole), what = PASS, result = -1;
    if (!seen || name_begin("mkdir", whole, &what))
        result = REAL(mkdirat)(directory, path, mode);
    int error = errno;
    if (seen && !result) {
        struct stat status;
        stat(whole, &status);
        note(MKDIR, status.st_ino, 0, 0, whole, NULL, 0);
        end(what);
    }
    pthread_mutex_unlock(&mutex);
    errno = error;
    return result;
}
int mkdir(const char *path, mode_t mode) { return mkdir_any(AT_FDCWD, path, mode); }
int mkdirat(int directory, const char *path, mode_t mode) { return mkdir_any(directory, path, mode); }
