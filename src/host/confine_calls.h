/* SPDX-License-Identifier: Apache-2.0 */
/* confine_calls.h -- the calls of the kernel that a server, and an agent, never make, one row
 * each.
 *
 * A list of what is refused, not of what is allowed: libc, GnuTLS and the resolver's modules
 * call different things from one version to the next, and on paths that no test takes (the
 * end of memory, an abort). What is here, none of them has a use for; it is what somebody
 * would want who has taken over the process. (systemd's units have a list of what is allowed
 * on top: packaging/systemd.)
 *
 * X(call, by, errno)
 *   by      EVERYBODY, or SERVERS: an agent starts HAProxy and the site's checks, which inherit
 *   errno   ENOSYS where a library then does it in the older way
 */
#ifndef MUSTER_CONFINE_CALLS_H
#define MUSTER_CONFINE_CALLS_H

#include <errno.h>
#include <sys/syscall.h>

/* The sanitizer that looks for leaks, at the end, uses it on itself. */
#ifdef __SANITIZE_ADDRESS__
#define CONFINE_PTRACE(X)
#else
#define CONFINE_PTRACE(X) X(ptrace, EVERYBODY, EPERM)
#endif

/* clang-format off */
#define CONFINE_CALLS(X)                                                                        \
    /* another program in our place */                                                          \
    X(execve, SERVERS, EPERM)                                                                   \
    X(execveat, SERVERS, EPERM)                                                                 \
    /* other processes' memory and files */                                                     \
    CONFINE_PTRACE(X)                                                                           \
    X(process_vm_readv, EVERYBODY, EPERM)                                                       \
    X(process_vm_writev, EVERYBODY, EPERM)                                                      \
    X(process_madvise, EVERYBODY, EPERM)                                                        \
    X(pidfd_getfd, EVERYBODY, EPERM)                                                            \
    X(kcmp, EVERYBODY, EPERM)                                                                   \
    /* files by handle: around the names, and so around the directories' modes */               \
    X(name_to_handle_at, EVERYBODY, EPERM)                                                      \
    X(open_by_handle_at, EVERYBODY, EPERM)                                                      \
    /* other namespaces, other roots */                                                         \
    X(setns, EVERYBODY, EPERM)                                                                  \
    X(unshare, EVERYBODY, EPERM)                                                                \
    X(clone3, EVERYBODY, ENOSYS) /* its flags cannot be looked at: clone's can, below */        \
    X(chroot, EVERYBODY, EPERM)                                                                 \
    X(pivot_root, EVERYBODY, EPERM)                                                             \
    X(mount, EVERYBODY, EPERM)                                                                  \
    X(umount2, EVERYBODY, EPERM)                                                                \
    X(mount_setattr, EVERYBODY, EPERM)                                                          \
    X(move_mount, EVERYBODY, EPERM)                                                             \
    X(open_tree, EVERYBODY, EPERM)                                                              \
    X(fsopen, EVERYBODY, EPERM)                                                                 \
    X(fsconfig, EVERYBODY, EPERM)                                                               \
    X(fsmount, EVERYBODY, EPERM)                                                                \
    X(fspick, EVERYBODY, EPERM)                                                                 \
    /* the kernel, and the machine as a whole */                                                \
    X(init_module, EVERYBODY, EPERM)                                                            \
    X(finit_module, EVERYBODY, EPERM)                                                           \
    X(delete_module, EVERYBODY, EPERM)                                                          \
    X(kexec_load, EVERYBODY, EPERM)                                                             \
    X(kexec_file_load, EVERYBODY, EPERM)                                                        \
    X(reboot, EVERYBODY, EPERM)                                                                 \
    X(swapon, EVERYBODY, EPERM)                                                                 \
    X(swapoff, EVERYBODY, EPERM)                                                                \
    X(acct, EVERYBODY, EPERM)                                                                   \
    X(quotactl, EVERYBODY, EPERM)                                                               \
    X(syslog, EVERYBODY, EPERM)                                                                 \
    X(sethostname, EVERYBODY, EPERM)                                                            \
    X(setdomainname, EVERYBODY, EPERM)                                                          \
    X(settimeofday, EVERYBODY, EPERM)                                                           \
    X(clock_settime, EVERYBODY, EPERM)                                                          \
    X(adjtimex, EVERYBODY, EPERM)                                                               \
    X(clock_adjtime, EVERYBODY, EPERM)                                                          \
    /* large parts of the kernel that nothing here needs, each with a history */                \
    X(bpf, EVERYBODY, EPERM)                                                                    \
    X(perf_event_open, EVERYBODY, EPERM)                                                        \
    X(userfaultfd, EVERYBODY, EPERM)                                                            \
    X(io_uring_setup, EVERYBODY, ENOSYS)                                                        \
    X(io_uring_enter, EVERYBODY, ENOSYS)                                                        \
    X(io_uring_register, EVERYBODY, ENOSYS)                                                     \
    X(add_key, EVERYBODY, EPERM)                                                                \
    X(request_key, EVERYBODY, EPERM)                                                            \
    X(keyctl, EVERYBODY, EPERM)                                                                 \
    X(fanotify_init, EVERYBODY, EPERM)                                                          \
    X(personality, EVERYBODY, EPERM)
/* clang-format on */

#endif
