/* SPDX-License-Identifier: Apache-2.0 */
#include "host/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/err.h"
#include "host/confine_calls.h"

/* ---- who ---- */

static int failed(struct buf *why, const char *what)
{
    int number = errno;

    buf_printf(why, "%s: %s", what, strerror(number));
    return number == EPERM ? ERR_PERMISSION : ERR_SYSTEM;
}

static void take(struct confine_user *u, uid_t uid, gid_t gid, const char *name)
{
    u->uid = uid;
    u->gid = gid;
    u->is_other = uid != geteuid();
    if (name != NULL)
        snprintf(u->name, sizeof u->name, "%s", name);
    else
        snprintf(u->name, sizeof u->name, "%u", (unsigned)uid);
}

/* The name of a number, and the group that goes with it, if it has any. */
static void take_number(struct confine_user *u, uid_t uid, gid_t gid)
{
    const struct passwd *p = getpwuid(uid);

    take(u, uid, p != NULL ? p->pw_gid : gid, p != NULL ? p->pw_name : NULL);
}

static int take_named(struct confine_user *u, const char *name, struct buf *why)
{
    const struct passwd *p = getpwnam(name);
    char *end;

    if (p != NULL) {
        take(u, p->pw_uid, p->pw_gid, p->pw_name);
        return 0;
    }
    unsigned long number = strtoul(name, &end, 10);
    if (end == name || *end != 0 || *name == '-' || number >= UINT32_MAX) {
        buf_printf(why, "there is no user %s", name);
        return ERR_NOT_FOUND;
    }
    take_number(u, (uid_t)number, (gid_t)number);
    return 0;
}

static int take_groups(struct confine_user *u, struct buf *why)
{
    u->n_groups = CONFINE_GROUPS_MAX;
    if (getgrouplist(u->name, u->gid, u->groups, &u->n_groups) >= 0)
        return 0;
    buf_printf(why, "%s is in %d groups, %d can be taken over", u->name, u->n_groups,
               CONFINE_GROUPS_MAX);
    return ERR_TOO_BIG;
}

static int find_user(const char *user, const char *dir, struct confine_user *out,
                     struct buf *why)
{
    const struct passwd *own;
    struct stat s;
    int err = 0;

    take_number(out, geteuid(), getegid());
    if (user != NULL)
        err = take_named(out, user, why);
    else if (geteuid() == 0 && stat(dir, &s) == 0)
        take_number(out, s.st_uid, s.st_gid);
    else if (geteuid() == 0 && (own = getpwnam(CONFINE_USER)) != NULL)
        take(out, own->pw_uid, own->pw_gid, own->pw_name);
    if (err != 0 || !out->is_other)
        return err;
    if (geteuid() != 0) {
        buf_printf(why, "only root can become another user, %s", out->name);
        return ERR_PERMISSION;
    }
    return take_groups(out, why);
}

/* What the child says, in one piece. */
struct found {
    int err;
    struct confine_user user;
    char why[256];
};

static void find_and_tell(const char *user, const char *dir, int to)
{
    struct buf why = {0};
    struct found f;

    memset(&f, 0, sizeof f);
    f.err = find_user(user, dir, &f.user, &why);
    snprintf(f.why, sizeof f.why, "%s", buf_text(&why));
    buf_free(&why);
    _exit(write(to, &f, sizeof f) == (ssize_t)sizeof f ? 0 : 1);
}

static size_t read_all(int from, void *data, size_t len)
{
    size_t got = 0;
    ssize_t n;

    while (got < len && ((n = read(from, (uint8_t *)data + got, len - got)) > 0 ||
                         (n < 0 && errno == EINTR)))
        got += n > 0 ? (size_t)n : 0;
    return got;
}

/* In a child: libc loads other people's modules to look for names (nsswitch.conf), and would
 * keep them, with their libraries, for as long as we live. systemd's take 0.7 MB. */
int confine_user(const char *user, const char *dir, struct confine_user *out, struct buf *why)
{
    struct found f;
    int ends[2], status = 0;

    *out = (struct confine_user){0};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return failed(why, "looking the user up: pipe");
    pid_t pid = fork();
    if (pid == 0)
        find_and_tell(user, dir, ends[1]);
    int err = pid < 0 ? failed(why, "looking the user up: fork") : 0;
    close(ends[1]);
    size_t got = read_all(ends[0], &f, sizeof f);
    close(ends[0]);
    if (err != 0)
        return err;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (got != sizeof f) {
        buf_printf(why,
                   "looking the user up: the process that does it ended without an answer "
                   "(status %d), likely in a module that /etc/nsswitch.conf names",
                   status);
        return ERR_SYSTEM;
    }
    *out = f.user;
    if (f.err != 0)
        buf_add_str(why, f.why);
    return f.err;
}

/* One file that somebody else has made, and the start would end with "permission denied". */
static int check_owner(const struct confine_user *u, const char *dir, const char *name,
                       struct buf *why)
{
    struct buf path = {0};
    struct stat s;
    int err = 0;

    buf_printf(&path, "%s%s%s", dir, *name != 0 ? "/" : "", name);
    if (u->uid != 0 && lstat(buf_text(&path), &s) == 0 && s.st_uid != u->uid) {
        buf_printf(why, "%s belongs to the user with number %u, and this is to run as %s",
                   buf_text(&path), (unsigned)s.st_uid, u->name);
        err = ERR_UNSAFE;
    }
    buf_free(&path);
    return err;
}

int confine_directory(const struct confine_user *u, const char *dir, struct buf *why)
{
    static const char *const names[] = {"", "lock", "machine", "secret", "store"};
    int err = 0;

    if (mkdir(dir, 0700) == 0 && u->is_other && chown(dir, u->uid, u->gid) != 0)
        return failed(why, dir); /* where it cannot be made, the next step says why */
    for (size_t i = 0; err == 0 && i < sizeof names / sizeof names[0]; i++)
        err = check_owner(u, dir, names[i], why);
    return err;
}

/* ---- capabilities ---- */

struct capabilities {
    uint64_t effective, permitted, inheritable;
};

/* The kernel has them in two halves. */
static int capabilities_get(struct capabilities *c)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct v[2];

    if (syscall(SYS_capget, &head, v) != 0)
        return -1;
    c->effective = v[0].effective | (uint64_t)v[1].effective << 32;
    c->permitted = v[0].permitted | (uint64_t)v[1].permitted << 32;
    c->inheritable = v[0].inheritable | (uint64_t)v[1].inheritable << 32;
    return 0;
}

static int capabilities_set(const struct capabilities *c)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct v[2];

    for (unsigned i = 0; i < 2; i++) {
        v[i].effective = (uint32_t)(c->effective >> 32 * i);
        v[i].permitted = (uint32_t)(c->permitted >> 32 * i);
        v[i].inheritable = (uint32_t)(c->inheritable >> 32 * i);
    }
    return (int)syscall(SYS_capset, &head, v);
}

static bool has(uint64_t set, unsigned long cap) { return (set >> cap & 1) != 0; }

/* What cannot be had any more, whatever is started. Needs CAP_SETPCAP; who has it not (a unit
 * of systemd's) was given no more than he needs, and no_new_privs does the rest. */
static int drop_bounds(uint64_t kept, struct buf *why)
{
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!has(kept, cap) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
            return failed(why, "dropping a capability");
    /* Root's number alone gives a program nothing any more. */
    if (prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_KEEP_CAPS, 0, 0,
              0) != 0)
        return failed(why, "setting the securebits");
    return 0;
}

static int pass_on(uint64_t passed, struct buf *why)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
        return failed(why, "clearing the capabilities of programs");
    for (unsigned long cap = 0; cap < 64; cap++)
        if (has(passed, cap) && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) != 0)
            return failed(why, "passing a capability on");
    return 0;
}

int confine_become(const struct confine_user *u, struct buf *why)
{
    uid_t real, effective, saved;

    if (!u->is_other)
        return 0;
    if (setgroups((size_t)u->n_groups, u->groups) != 0 ||
        setresgid(u->gid, u->gid, u->gid) != 0 || setresuid(u->uid, u->uid, u->uid) != 0)
        return failed(why, u->name);
    if (getresuid(&real, &effective, &saved) == 0 && real == u->uid && effective == u->uid &&
        saved == u->uid)
        return 0;
    buf_printf(why, "this process has not become %s, though the kernel says so", u->name);
    return ERR_SYSTEM;
}

static int no_dumps(struct buf *why)
{
    const struct rlimit none = {0, 0};

    /* The limit does not count where dumps go to a program; being undumpable does. */
    if (setrlimit(RLIMIT_CORE, &none) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return failed(why, "switching core dumps off");
    return 0;
}

int confine_privileges(const struct confine_user *u, uint64_t kept, uint64_t passed,
                       struct buf *why)
{
    struct capabilities now, want;
    int err = 0;

    if (capabilities_get(&now) != 0)
        return failed(why, "reading the capabilities");
    want.effective = want.permitted = now.permitted & kept;
    want.inheritable = want.permitted & passed;
    if (has(now.effective, CAP_SETPCAP))
        err = drop_bounds(kept, why);
    if (err == 0)
        err = confine_become(u, why);
    if (err != 0)
        return err;
    /* Who has what he should have need not ask for it: a unit of systemd's forbids to. */
    bool is_so = capabilities_get(&now) == 0 && now.permitted == want.permitted &&
                 now.effective == want.effective && now.inheritable == want.inheritable;
    if (!is_so && capabilities_set(&want) != 0)
        return failed(why, "setting the capabilities");
    if ((err = pass_on(want.inheritable, why)) != 0)
        return err;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return failed(why, "setting no_new_privs");
    if (capabilities_get(&now) != 0 || now.permitted != want.permitted ||
        now.effective != want.effective || now.inheritable != want.inheritable) {
        buf_add_str(why, "the capabilities are not what was set");
        return ERR_SYSTEM;
    }
    return no_dumps(why);
}

/* ---- calls of the kernel ---- */

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define OTHER_NUMBERS 0x40000000u /* from here on, the same calls again (x32) */
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

#ifdef ARCHITECTURE

enum by { EVERYBODY, SERVERS };

#define FILTER_MAX 256

struct filter {
    struct sock_filter v[FILTER_MAX];
    unsigned short n;
};

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOW_HALF 0
#else
#define LOW_HALF 4
#endif

static void add(struct filter *f, struct sock_filter row)
{
    CHECK(f->n < FILTER_MAX);
    f->v[f->n++] = row;
}

static void load(struct filter *f, size_t offset)
{
    add(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void load_argument(struct filter *f, unsigned number)
{
    load(f, offsetof(struct seccomp_data, args) + 8 * number + LOW_HALF);
}

/* Goes on with the next row if it is so, else over `over` rows. */
static void when(struct filter *f, uint16_t test, uint32_t value, uint8_t over)
{
    add(f, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | test | BPF_K), value, 0, over));
}

static void answer(struct filter *f, uint32_t what)
{
    add(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

static void refuse(struct filter *f, int number)
{
    answer(f, SECCOMP_RET_ERRNO | (uint32_t)number);
}

/* Refused when any of these bits (or all of them) is set in an argument. */
static void refuse_bits(struct filter *f, uint32_t call, unsigned argument, uint32_t bits,
                        bool all)
{
    when(f, BPF_JEQ, call, all ? 5 : 4);
    load_argument(f, argument);
    if (all)
        add(f, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, bits));
    when(f, all ? BPF_JEQ : BPF_JSET, bits, 1);
    refuse(f, EPERM);
    answer(f, SECCOMP_RET_ALLOW);
}

static void refuse_sockets(struct filter *f, bool starts_programs)
{
    static const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET};
    uint8_t n = starts_programs ? 5 : 4; /* the last is for the agent's ARP */

    when(f, BPF_JEQ, SYS_socket, (uint8_t)(2 * n + 2));
    load_argument(f, 0);
    for (unsigned i = 0; i < n; i++) {
        when(f, BPF_JEQ, families[i], 1);
        answer(f, SECCOMP_RET_ALLOW);
    }
    refuse(f, EAFNOSUPPORT);
}

static void build(struct filter *f, bool starts_programs)
{
    const uint32_t namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET |
                                CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

    load(f, offsetof(struct seccomp_data, arch));
    when(f, BPF_JEQ, ARCHITECTURE, 1);
    add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0));
    refuse(f, EPERM);
    load(f, offsetof(struct seccomp_data, nr));
#ifdef OTHER_NUMBERS
    when(f, BPF_JGE, OTHER_NUMBERS, 1);
    refuse(f, EPERM);
#endif
#define X(call, by, number)                      \
    if ((by) == EVERYBODY || !starts_programs) { \
        when(f, BPF_JEQ, SYS_##call, 1);         \
        refuse(f, number);                       \
    }
    CONFINE_CALLS(X)
#undef X
    refuse_bits(f, SYS_clone, 0, namespaces, false);
    refuse_sockets(f, starts_programs);
    if (!starts_programs) { /* what an agent starts may compile as it goes */
        refuse_bits(f, SYS_mmap, 2, PROT_WRITE | PROT_EXEC, true);
        refuse_bits(f, SYS_mprotect, 2, PROT_EXEC, false);
        refuse_bits(f, SYS_pkey_mprotect, 2, PROT_EXEC, false);
    }
    answer(f, SECCOMP_RET_ALLOW);
}

int confine_calls(bool starts_programs, struct buf *why)
{
    struct filter f = {.n = 0};

    build(&f, starts_programs);
    const struct sock_fprog program = {f.n, f.v};
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
        return failed(why, "seccomp");
    return 0;
}

#else

int confine_calls(bool starts_programs, struct buf *why)
{
    (void)starts_programs;
    buf_add_str(why, "seccomp: there is no filter for this architecture");
    return ERR_UNIMPLEMENTED;
}

#endif
