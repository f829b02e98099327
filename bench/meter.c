/* SPDX-License-Identifier: Apache-2.0 */
#include "meter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"

#define PATH_ROOM 64
#define SECTOR_BYTES 512 /* in the kernel's figures, whatever the disk has */

uint64_t meter_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A server that ended, or that is not ours to look at: then the figures would be wrong. */
_Noreturn static void no_figures(const char *path)
{
    fprintf(stderr, "load: %s: %s; does the server (pids=) still run, and as the same user?\n",
            path, strerror(errno));
    exit(1);
}

/* The number behind `key` in a file of lines. */
static uint64_t line_of(const char *path, const char *key)
{
    char line[256];
    FILE *f = fopen(path, "re");
    uint64_t v = 0;

    if (f == NULL)
        no_figures(path);
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0)
            v = strtoull(line + strlen(key), NULL, 10);
    }
    fclose(f);
    return v;
}

static double cpu_of(pid_t pid)
{
    char path[PATH_ROOM], text[1024];
    unsigned long user = 0, system = 0;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "re");
    if (f == NULL)
        no_figures(path);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    const char *at = strrchr(text, ')'); /* the name may hold anything */
    if (at == NULL || sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user,
                             &system) != 2)
        no_figures(path);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Voluntary ones, of all threads that live. */
static uint64_t switches_of(pid_t pid)
{
    char path[PATH_ROOM];
    uint64_t sum = 0;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *d = opendir(path);
    if (d == NULL)
        no_figures(path);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/%d/task/%ld/status", (int)pid, atol(e->d_name));
        if (access(path, R_OK) == 0) /* a thread may end meanwhile */
            sum += line_of(path, "voluntary_ctxt_switches:");
    }
    closedir(d);
    return sum;
}

static struct meter_cost cost_now(const struct meter *m)
{
    struct meter_cost c = {0};
    struct rusage own;

    getrusage(RUSAGE_SELF, &own);
    c.load_cpu_s = (double)(own.ru_utime.tv_sec + own.ru_stime.tv_sec) +
                   (double)(own.ru_utime.tv_usec + own.ru_stime.tv_usec) / 1e6;
    for (size_t i = 0; i < m->servers->n; i++) {
        c.servers_cpu_s += cpu_of(m->servers->pids[i]);
        c.servers_switches += switches_of(m->servers->pids[i]);
    }
    return c;
}

/* Written to the device of the directory since it is there. /proc/PID/io would tell what each
 * process wrote, but counts a whole folio of the page cache (up to 1 MiB) when a byte of it
 * changes. -1: the file system has no device of its own (tmpfs, overlay, btrfs). */
static int64_t disk_written(const char *dir)
{
    unsigned long long sectors;
    char path[PATH_ROOM];
    struct stat s;

    if (dir == NULL)
        return -1;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &s) != 0 || syncfs(fd) != 0)
        no_figures(dir);
    close(fd);
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat", major(s.st_dev), minor(s.st_dev));
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return -1;
    if (fscanf(f, "%*u %*u %*u %*u %*u %*u %llu", &sectors) != 1)
        no_figures(path);
    fclose(f);
    return (int64_t)sectors * SECTOR_BYTES;
}

static void run(struct meter *m, uint64_t now_ns)
{
    m->state = METER_RUNS;
    m->warm_seen = m->seen;
    m->before = cost_now(m);
    uint64_t spent_ns = meter_now_ns() - now_ns; /* with reading: it is nobody's */
    m->begun_ns = now_ns + spent_ns;
    m->until_ns += spent_ns;
}

void meter_begin(struct meter *m, double warm_s, double seconds, uint64_t requests_most,
                 const struct meter_servers *servers)
{
    *m = (struct meter){.state = METER_WARMS,
                        .requests_most = requests_most,
                        .disk_before = disk_written(servers->dir),
                        .servers = servers};
    uint64_t now = meter_now_ns();
    m->warm_until_ns = now + (uint64_t)(warm_s * 1e9);
    m->until_ns = m->warm_until_ns + (uint64_t)(seconds * 1e9);
    if (warm_s <= 0)
        run(m, now);
}

void meter_look(struct meter *m, uint64_t now_ns)
{
    if (m->state == METER_WARMS && now_ns >= m->warm_until_ns)
        run(m, now_ns);
    bool is_enough = m->requests_most > 0 && m->seen - m->warm_seen >= m->requests_most;
    if (m->state == METER_RUNS && (now_ns >= m->until_ns || is_enough)) {
        m->state = METER_OVER;
        m->ended_ns = now_ns;
        m->after = cost_now(m);
    }
}

void meter_print(const struct meter *m, FILE *to)
{
    const struct histogram *h = &m->latency;
    double seconds = (double)(m->ended_ns - m->begun_ns) / 1e9;

    CHECK(m->state == METER_OVER);
    fprintf(to, "\"requests\": %llu, \"seconds\": %.3f, \"rate\": %.1f",
            (unsigned long long)h->count, seconds,
            seconds > 0 ? (double)h->count / seconds : 0);
    fprintf(to, ", \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, \"most_us\": %.1f",
            (double)histogram_permille(h, 500) / 1e3, (double)histogram_permille(h, 990) / 1e3,
            (double)histogram_permille(h, 999) / 1e3, (double)h->most / 1e3);
    fprintf(to, ", \"load_cpu_s\": %.3f", m->after.load_cpu_s - m->before.load_cpu_s);
    if (m->servers->n > 0)
        fprintf(to, ", \"servers_cpu_s\": %.2f, \"servers_switches\": %lld",
                m->after.servers_cpu_s - m->before.servers_cpu_s,
                (long long)(m->after.servers_switches - m->before.servers_switches));
    if (m->disk_before >= 0 && m->seen > 0)
        fprintf(to, ", \"disk_bytes_each\": %.2f",
                (double)(disk_written(m->servers->dir) - m->disk_before) / (double)m->seen);
}
