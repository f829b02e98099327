/* SPDX-License-Identifier: Apache-2.0 */
/* status: it always answers, with what is known and how old that is. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cmd.h"
#include "cli/http_get.h"
#include "cli/print.h"
#include "cli/status_show.h"
#include "host/clock.h"
#include "host/files.h"

#define WATCH_EVERY_S 1
#define HTTP_TIMEOUT_MS 3000 /* it is on this machine: more means that it hangs */

static const char *address_of(const struct cmd_env *env)
{
    const char *a = cmd_option(env, "http");

    if (a == NULL)
        a = getenv("MUSTER_HTTP");
    return a != NULL && *a != 0 ? a : CMD_HTTP_DEFAULT;
}

static void print_verdict(const char *verdict, int code)
{
    const char *colour = code == EXIT_OK         ? "\033[32m"
                         : code == EXIT_DEGRADED ? "\033[33m"
                                                 : "\033[31m";
    bool in_colour = print_in_colour();

    fputs(in_colour ? colour : "", stdout);
    print_text(stdout, verdict);
    puts(in_colour ? "\033[0m" : "");
}

/* What muster has written down of an earlier answer. NULL: nothing. */
static json_t *last_known(const struct cmd_env *env, uint64_t *age_ms)
{
    const char *dir = cmd_option(env, "data");
    struct buf path = {0}, content = {0};
    struct stat st;
    json_t *status = NULL;

    buf_printf(&path, "%s/status.json", dir != NULL ? dir : CMD_DIR_DEFAULT);
    if (stat(buf_text(&path), &st) == 0 &&
        file_read(buf_text(&path), HTTP_GET_BYTES_MAX, &content) == 0) {
        uint64_t written = (uint64_t)st.st_mtime * 1000, now = clock_wall_ms();
        *age_ms = now > written ? now - written : 0;
        status = json_loadb((const char *)content.data, content.len, 0, NULL);
        if (!json_is_object(status)) {
            json_decref(status);
            status = NULL;
        }
    }
    buf_free(&path);
    buf_free(&content);
    return status;
}

static int show_down(const struct cmd_env *env, const char *fact)
{
    static const char verdict[] = "DOWN: muster does not answer on this machine";
    char age[32];
    uint64_t age_ms = 0;
    json_t *last = last_known(env, &age_ms);

    if (env->json) {
        print_json(json_pack("{s:s, s:i, s:s, s:s, s:o, s:o}", "verdict", verdict, "exit",
                             EXIT_DOWN, "asked", address_of(env), "why", fact, "last_known",
                             last != NULL ? last : json_null(), "last_known_ms_ago",
                             last != NULL ? json_integer((json_int_t)age_ms) : json_null()));
        return EXIT_DOWN;
    }
    print_verdict(verdict, EXIT_DOWN);
    printf("asked: http://%s/status: %s\n"
           "likely: it is not started, or it has another port\n"
           "next: muster up, or its log: journalctl -u muster\n",
           address_of(env), fact);
    if (last != NULL) {
        const char *was = json_string_value(json_object_get(last, "verdict"));
        print_age(age, sizeof age, age_ms);
        printf("\nLast known, %s ago: ", age);
        print_text(stdout, was != NULL ? was : "?");
        putchar('\n');
        status_show(stdout, last);
        json_decref(last);
    }
    return EXIT_DOWN;
}

static int show_once(const struct cmd_env *env)
{
    struct buf body = {0}, why = {0};
    uint32_t timeout_ms = env->timeout_ms < HTTP_TIMEOUT_MS ? env->timeout_ms : HTTP_TIMEOUT_MS;
    int http_code = 0, code;

    int err = http_get(address_of(env), "/status", timeout_ms, &http_code, &body, &why);
    json_t *status =
        err == 0 ? json_loadb((const char *)body.data, body.len, JSON_REJECT_DUPLICATES, NULL)
                 : NULL;
    const char *verdict = json_string_value(json_object_get(status, "verdict"));
    if (verdict == NULL) {
        if (err == 0)
            buf_printf(&why, "it answered with HTTP %d, but not with a status", http_code);
        code = show_down(env, buf_text(&why));
    } else {
        const json_t *number = json_object_get(status, "exit");
        code = json_is_integer(number) ? (int)json_integer_value(number) : EXIT_FAILED;
        if (env->json) {
            print_json(json_incref(status));
        } else {
            print_verdict(verdict, code);
            status_show(stdout, status);
        }
    }
    json_decref(status);
    buf_free(&body);
    buf_free(&why);
    return code;
}

int cmd_status(struct cmd_env *env, int argc, char **argv)
{
    (void)argc, (void)argv;
    if (cmd_option(env, "watch") == NULL)
        return show_once(env);
    for (;;) {
        if (!env->json && isatty(STDOUT_FILENO))
            fputs("\033[H\033[J", stdout);
        int code = show_once(env);
        if (fflush(stdout) != 0)
            return code;
        sleep(WATCH_EVERY_S);
    }
}
