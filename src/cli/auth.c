/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/auth.h"

#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "host/files.h"

#define LOOKS_LIKE "it holds one line, as digest:NAME:PASSWORD"

static int check_mode(const char *path)
{
    struct stat st;

    if (stat(path, &st) != 0 || (st.st_mode & 077) == 0)
        return 0; /* that it cannot be read is said with the reading */
    return cmd_fail(EXIT_UNSAFE, path, "others on this machine may read it", NULL,
                    "chmod 600, and a new password if they may have");
}

int auth_read(const struct cmd_env *env, struct auth *out)
{
    struct buf content = {0};

    *out = (struct auth){.scheme = NULL};
    if (env->auth_file == NULL)
        return 0;
    int code = check_mode(env->auth_file);
    if (code != 0)
        return code;
    int err = file_read(env->auth_file, AUTH_BYTES_MAX, &content);
    if (err != 0)
        return cmd_fail(EXIT_FAILED, env->auth_file, err_text(err), NULL,
                        "--auth-file, or MUSTER_AUTH_FILE, names it; " LOOKS_LIKE);
    size_t len = content.len;
    memcpy(out->text, content.data != NULL ? content.data : (const uint8_t *)"", len);
    buf_wipe(&content);
    while (len > 0 && (out->text[len - 1] == '\n' || out->text[len - 1] == '\r'))
        len--;
    out->text[len] = 0;
    char *colon = strchr(out->text, ':');
    if (strlen(out->text) != len || strpbrk(out->text, "\r\n") != NULL || colon == NULL ||
        colon == out->text || colon[1] == 0)
        return cmd_fail(EXIT_USAGE, env->auth_file, "these are no credentials", NULL,
                        LOOKS_LIKE);
    *colon = 0;
    out->scheme = out->text;
    out->auth = colon + 1;
    return 0;
}
