/* SPDX-License-Identifier: Apache-2.0 */
/* What a process has given up: each test in a child of its own, since there is no way back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "host/confine.h"
#include "host/confine_calls.h"
#include "host/notify.h"

#define OTHER 4711 /* a user without a name */
#define SKIPPED 77
#define BIT(cap) (UINT64_C(1) << (cap))

static int failures; /* of a child */

static void expect(bool is_so, const char *what, long measured)
{
    if (is_so)
        return;
    fprintf(stderr, "not so: %s (%ld)\n", what, measured);
    failures++;
}

/* Runs a test in a child; it fails when the child found something, or was killed. */
static void in_child(void (*test)(void))
{
    int status;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        failures = 0;
        test();
        _exit(failures);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void need_root(void)
{
    if (geteuid() != 0)
        _exit(SKIPPED);
}

static uint64_t status_hex(const char *key)
{
    char line[256];
    uint64_t v = UINT64_MAX;
    FILE *f = fopen("/proc/self/status", "r");

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0)
            v = strtoull(line + strlen(key), NULL, 16);
    if (f != NULL)
        fclose(f);
    return v;
}

/* ---- calls of the kernel ---- */

enum by { EVERYBODY, SERVERS };

static const struct {
    const char *name;
    long call;
    enum by by;
    int number;
} rows[] = {
#define X(call, by, number) {#call, SYS_##call, by, number},
    CONFINE_CALLS(X)
#undef X
};

/* With arguments that nothing comes of, should it be let through. */
static void try_all(bool starts_programs)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].by == SERVERS && starts_programs)
            continue;
        errno = 0;
        long got = syscall(rows[i].call, -1L, -1L, -1L, -1L, -1L, -1L);
        expect(got == -1 && errno == rows[i].number, rows[i].name, errno);
    }
    expect(syscall(SYS_clone, (long)(0x10000000 | SIGCHLD), 0L, 0L, 0L, 0L) == -1 &&
               errno == EPERM,
           "clone with CLONE_NEWUSER", errno);
}

static void confine_or_die(bool starts_programs)
{
    struct buf why = {0};
    struct confine_user u = {.uid = geteuid()};

    expect(confine_privileges(&u, 0, 0, &why) == 0, buf_text(&why), 0);
    expect(confine_calls(starts_programs, &why) == 0, buf_text(&why), 0);
    buf_free(&why);
}

static void *thread(void *arg)
{
    *(int *)arg = 1;
    return NULL;
}

/* What a server does need, of what the filter looks at. */
static void try_needed(void)
{
    int ran = 0;
    pthread_t t;
    struct addrinfo *found = NULL;
    void *room = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    expect(room != MAP_FAILED, "memory", errno);
    expect(fd >= 0, "a socket", errno);
    expect(pthread_create(&t, NULL, thread, &ran) == 0 && pthread_join(t, NULL) == 0 && ran,
           "a thread", errno);
    expect(getaddrinfo("localhost", "80", NULL, &found) == 0, "the resolver", errno);
    if (found != NULL)
        freeaddrinfo(found);
    close(fd);
}

static void server_calls(void)
{
    char *args[] = {"/bin/true", NULL};

    confine_or_die(false);
    try_all(false);
    expect(execv(args[0], args) == -1 && errno == EPERM, "another program", errno);
    expect(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                0) == MAP_FAILED &&
               errno == EPERM,
           "memory to write and to run", errno);
    void *room = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(mprotect(room, 4096, PROT_READ | PROT_EXEC) == -1 && errno == EPERM,
           "memory made to run", errno);
    expect(socket(AF_PACKET, SOCK_RAW, 0) == -1 && errno == EAFNOSUPPORT, "a packet socket",
           errno);
    expect(socket(AF_VSOCK, SOCK_STREAM, 0) == -1 && errno == EAFNOSUPPORT, "another family",
           errno);
    try_needed();
}

static void agent_calls(void)
{
    int status;

    confine_or_die(true);
    try_all(true);
    expect(socket(AF_VSOCK, SOCK_STREAM, 0) == -1 && errno == EAFNOSUPPORT, "another family",
           errno);
    try_needed();
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/sh", "sh", "-c", "exit 3", NULL);
        _exit(4);
    }
    expect(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 3,
           "an agent's program", status);
}

/* Without the filter these do something else: else the tests above would prove nothing. */
static void calls_without_filter(void)
{
    expect(syscall(SYS_kcmp, -1L, -1L, -1L, -1L, -1L) == -1 && errno == ESRCH, "kcmp", errno);
    expect(syscall(SYS_personality, 0xffffffffL) != -1, "personality", errno);
    expect(execl("/nonexistent", "x", NULL) == -1 && errno == ENOENT, "execve", errno);
    expect(syscall(SYS_setns, -1L, 0L) == -1 && errno == EBADF, "setns", errno);
}

static void a_server_is_refused_each_call(void **state)
{
    (void)state;
    in_child(server_calls);
}

static void an_agent_may_start_programs_and_little_else(void **state)
{
    (void)state;
    in_child(agent_calls);
}

static void without_the_filter_they_are_not_refused(void **state)
{
    (void)state;
    in_child(calls_without_filter);
}

/* ---- privileges ---- */

static void none_kept(void)
{
    struct confine_user u;
    struct buf why = {0};
    struct rlimit core;

    need_root();
    expect(confine_user("4711", "/", &u, &why) == 0 && u.is_other, buf_text(&why), 0);
    expect(confine_privileges(&u, 0, 0, &why) == 0, buf_text(&why), 0);
    expect(getuid() == OTHER && geteuid() == OTHER && getgid() == OTHER, "the user", getuid());
    expect(getgroups(0, NULL) <= 1, "the groups", getgroups(0, NULL));
    expect(status_hex("CapPrm:") == 0 && status_hex("CapEff:") == 0, "no capability", 0);
    expect(status_hex("CapBnd:") == 0, "none to be had", 0);
    expect(status_hex("NoNewPrivs:") == 1, "no new privileges", 0);
    expect(setuid(0) == -1, "back to root", errno);
    expect(open("/etc/shadow", O_RDONLY) == -1 && errno == EACCES, "root's files", errno);
    expect(prctl(PR_GET_DUMPABLE) == 0, "a core dump", prctl(PR_GET_DUMPABLE));
    expect(getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 0, "the limit of dumps", 0);
    buf_free(&why);
}

static void root_without_capabilities(void)
{
    struct confine_user u;
    struct buf why = {0};

    need_root();
    expect(confine_user("root", "/", &u, &why) == 0 && !u.is_other, buf_text(&why), 0);
    expect(confine_privileges(&u, 0, 0, &why) == 0, buf_text(&why), 0);
    expect(status_hex("CapEff:") == 0 && status_hex("CapBnd:") == 0, "no capability", 0);
    expect(chown("/tmp", OTHER, OTHER) == -1 && errno == EPERM, "chown", errno);
    if (fork() == 0)
        execl("/bin/sh", "sh", "-c",
              "grep -q '^CapEff:.0*$' /proc/self/status && exit 0; exit 1", NULL);
    int status;
    expect(wait(&status) > 0 && status == 0, "a program of root's has no capability", status);
    buf_free(&why);
}

/* Both for a user and for root's own number. */
static void some_kept(const char *user)
{
    const uint64_t kept = BIT(CAP_NET_RAW) | BIT(CAP_NET_BIND_SERVICE);
    struct confine_user u;
    struct buf why = {0};
    int status;

    need_root();
    expect(confine_user(user, "/", &u, &why) == 0, buf_text(&why), 0);
    expect(confine_privileges(&u, kept, BIT(CAP_NET_BIND_SERVICE), &why) == 0, buf_text(&why),
           0);
    expect(status_hex("CapEff:") == kept && status_hex("CapPrm:") == kept, "what is kept",
           (long)status_hex("CapEff:"));
    expect(status_hex("CapBnd:") == kept, "what can be had", (long)status_hex("CapBnd:"));
    if (fork() == 0)
        execl("/bin/sh", "sh", "-c", "grep -q '^CapEff:.0*400$' /proc/self/status", NULL);
    expect(wait(&status) > 0 && status == 0, "a program gets what is passed on, no more",
           status);
    buf_free(&why);
}

static void some_kept_by_a_user(void) { some_kept("4711"); }
static void some_kept_by_root(void) { some_kept("root"); }

static void nothing_is_kept_of_root(void **state)
{
    (void)state;
    in_child(none_kept);
    in_child(root_without_capabilities);
}

static void what_is_kept_is_kept_and_what_is_passed_is_less(void **state)
{
    (void)state;
    in_child(some_kept_by_a_user);
    in_child(some_kept_by_root);
}

/* ---- who ---- */

static bool has_mapped(const char *name)
{
    char line[512];
    bool has = false;
    FILE *f = fopen("/proc/self/maps", "r");

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        has = has || strstr(line, name) != NULL;
    expect(f != NULL, "/proc/self/maps", errno);
    if (f != NULL)
        fclose(f);
    return has;
}

/* Neither the look-ups nor becoming him load what nsswitch.conf names. */
static void no_modules(void)
{
    struct confine_user u;
    struct buf why = {0};

    expect(confine_user(NULL, "/nothing-of-that-name", &u, &why) == 0, buf_text(&why), 0);
    expect(confine_user("nobody-of-that-name", "/", &u, &why) == ERR_NOT_FOUND, "no user", 0);
    if (geteuid() == 0) {
        expect(confine_user("daemon", "/", &u, &why) == 0 && u.is_other, buf_text(&why), 0);
        expect(confine_become(&u, &why) == 0, buf_text(&why), 0);
    }
    expect(!has_mapped("/libnss_"), "a module is in this process", 0);
    expect(has_mapped("/libc.so"), "the maps can be read", 0);
    buf_free(&why);
}

static void who_it_is_is_looked_up_elsewhere(void **state)
{
    (void)state;
    in_child(no_modules);
}

/* Who is named in a group of others', if anybody is here: else he has but his own. */
static void somebody_in_a_group(char name[CONFINE_NAME_MAX])
{
    snprintf(name, CONFINE_NAME_MAX, "daemon");
    setgrent();
    for (struct group *g; (g = getgrent()) != NULL;)
        if (g->gr_mem[0] != NULL && strcmp(g->gr_mem[0], "root") != 0 &&
            getpwnam(g->gr_mem[0]) != NULL)
            snprintf(name, CONFINE_NAME_MAX, "%s", g->gr_mem[0]);
    endgrent();
}

static void groups_of_a_user(void)
{
    gid_t want[CONFINE_GROUPS_MAX], got[CONFINE_GROUPS_MAX];
    char name[CONFINE_NAME_MAX];
    struct confine_user u;
    struct buf why = {0};

    need_root();
    somebody_in_a_group(name);
    expect(confine_user(name, "/", &u, &why) == 0 && u.is_other, buf_text(&why), 0);
    expect(initgroups(name, u.gid) == 0, "initgroups", errno);
    int n = getgroups(CONFINE_GROUPS_MAX, want);
    expect(setgroups(0, NULL) == 0, "setgroups", errno);
    expect(confine_become(&u, &why) == 0, buf_text(&why), 0);
    expect(getgroups(CONFINE_GROUPS_MAX, got) == n, "the number of groups", n);
    expect(memcmp(want, got, (size_t)n * sizeof *got) == 0, "the groups", n);
    buf_free(&why);
}

static void a_user_has_the_groups_that_name_him(void **state)
{
    (void)state;
    in_child(groups_of_a_user);
}

static void owners(void)
{
    char dir[] = "/tmp/muster-confine-XXXXXX", path[64];
    struct confine_user u;
    struct buf why = {0};

    need_root();
    expect(mkdtemp(dir) != NULL, "a directory", errno);
    expect(confine_user(NULL, dir, &u, &why) == 0 && !u.is_other, "root's directory", u.uid);
    expect(chown(dir, OTHER, OTHER) == 0, "chown", errno);
    expect(confine_user(NULL, dir, &u, &why) == 0 && u.is_other && u.uid == OTHER,
           "a user's directory", u.uid);
    expect(strcmp(u.name, "4711") == 0, "his name", 0);
    expect(confine_user("root", dir, &u, &why) == 0 && u.uid == 0, "who is named counts",
           u.uid);
    expect(confine_user("nobody-of-that-name", dir, &u, &why) == ERR_NOT_FOUND, "no user", 0);
    expect(confine_user("-1", dir, &u, &why) == ERR_NOT_FOUND, "no number", 0);
    expect(confine_user("4294967295", dir, &u, &why) == ERR_NOT_FOUND, "no user's number", 0);

    expect(confine_user("4711", dir, &u, &why) == 0, "a number", 0);
    snprintf(path, sizeof path, "%s/new", dir);
    struct stat s;
    expect(confine_directory(&u, path, &why) == 0 && stat(path, &s) == 0 && s.st_uid == OTHER &&
               (s.st_mode & 0777) == 0700,
           "a new directory is his alone", 0);
    rmdir(path);
    expect(confine_directory(&u, dir, &why) == 0, "his own", 0);
    snprintf(path, sizeof path, "%s/machine", dir);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    buf_clear(&why);
    expect(confine_directory(&u, dir, &why) == ERR_UNSAFE, "root's file in it", 0);
    expect(strstr(buf_text(&why), "/machine belongs to") != NULL, buf_text(&why), 0);
    unlink(path);
    rmdir(dir);
    buf_free(&why);
}

static void not_root(void)
{
    struct confine_user u;
    struct buf why = {0};

    if (geteuid() == 0 && setuid(OTHER) != 0)
        _exit(SKIPPED);
    expect(confine_user(NULL, "/", &u, &why) == 0 && !u.is_other && u.uid == geteuid(),
           "stays who he is", u.uid);
    expect(confine_user("root", "/", &u, &why) == ERR_PERMISSION, "cannot become root", 0);
    expect(confine_privileges(&(struct confine_user){.uid = geteuid()}, BIT(CAP_NET_RAW), 0,
                              &why) == 0,
           buf_text(&why), 0);
    expect(status_hex("CapEff:") == 0, "gets nothing", 0);
    buf_free(&why);
}

static void who_owns_the_directory_is_who_runs(void **state)
{
    (void)state;
    in_child(owners);
}

static void who_is_not_root_stays_who_he_is(void **state)
{
    (void)state;
    in_child(not_root);
}

/* ---- systemd ---- */

static void systemd_is_told(void **state)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char name[40], got[64];
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    (void)state;
    unsetenv("NOTIFY_SOCKET");
    assert_int_equal(notify_send("READY=1"), ERR_NOT_FOUND);
    assert_int_equal(notify_watchdog_ms(), 0);

    snprintf(name, sizeof name, "@muster-notify-%d", (int)getpid());
    memcpy(at.sun_path, name, strlen(name));
    at.sun_path[0] = 0;
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    setenv("NOTIFY_SOCKET", name, 1);
    assert_int_equal(notify_send("READY=1"), 0);
    ssize_t n = recv(fd, got, sizeof got, MSG_DONTWAIT);
    assert_int_equal(n, 7);
    assert_memory_equal(got, "READY=1", 7);
    close(fd);
    assert_int_equal(notify_send("READY=1"), ERR_SYSTEM);
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_int_equal(notify_send("READY=1"), ERR_BAD_ARGUMENTS);

    setenv("WATCHDOG_USEC", "60000000", 1);
    assert_int_equal(notify_watchdog_ms(), 60000);
    setenv("WATCHDOG_PID", "1", 1);
    assert_int_equal(notify_watchdog_ms(), 0);
    unsetenv("WATCHDOG_PID");
    unsetenv("WATCHDOG_USEC");
    unsetenv("NOTIFY_SOCKET");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_is_refused_each_call),
        cmocka_unit_test(an_agent_may_start_programs_and_little_else),
        cmocka_unit_test(without_the_filter_they_are_not_refused),
        cmocka_unit_test(nothing_is_kept_of_root),
        cmocka_unit_test(what_is_kept_is_kept_and_what_is_passed_is_less),
        cmocka_unit_test(who_it_is_is_looked_up_elsewhere),
        cmocka_unit_test(a_user_has_the_groups_that_name_him),
        cmocka_unit_test(who_owns_the_directory_is_who_runs),
        cmocka_unit_test(who_is_not_root_stays_who_he_is),
        cmocka_unit_test(systemd_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
