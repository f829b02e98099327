/* SPDX-License-Identifier: Apache-2.0 */
/* completion: made from the table of commands. */
#include <string.h>

#include "cli/cmd.h"

static void print_words(const struct cmd *cmd)
{
    printf("        %s) words=\"--server --timeout --json --help", cmd->name);
    for (const struct cmd_option *o = cmd->options; o != NULL && o->name != NULL; o++)
        printf(" --%s", o->name);
    puts("\" ;;");
}

/* Options with a value that is a file's or a directory's name. */
static void print_values(void)
{
    puts("    case $last in\n"
         "        --data) COMPREPLY=($(compgen -d -- \"$word\")); return ;;\n"
         "        --name|--address|--listen|--http|--server|--timeout|--wait|--session|"
         "--if-version|--count|--priority|--keep|--at|--above|--yes) return ;;\n"
         "    esac");
}

static void print_bash(void)
{
    puts("# bash completion for muster; made by: muster completion bash\n"
         "_muster() {\n"
         "    local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]}\n"
         "    local command= words i\n"
         "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
         "        case ${COMP_WORDS[i]} in\n"
         "            --server|--timeout) ((i++)) ;;\n"
         "            -*) ;;\n"
         "            *) command=${COMP_WORDS[i]}; break ;;\n"
         "        esac\n"
         "    done\n"
         "    COMPREPLY=()");
    print_values();
    fputs("    if [ -z \"$command\" ]; then\n        words=\"--help --version", stdout);
    for (unsigned i = 0; i < cmd_table_len; i++)
        printf(" %s", cmd_table[i].name);
    puts("\"\n        COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n        return\n    "
         "fi\n"
         "    case $command in");
    for (unsigned i = 0; i < cmd_table_len; i++)
        print_words(&cmd_table[i]);
    /* Paths of the tree: only those of a server that answers at once. */
    puts("        *) return ;;\n"
         "    esac\n"
         "    if [[ $word == -* ]]; then\n"
         "        COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "        return\n"
         "    fi\n"
         "    case $command in\n"
         "        apply) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
         "        backup|restore) COMPREPLY=($(compgen -d -- \"$word\")) ;;\n"
         "        completion) COMPREPLY=($(compgen -W bash -- \"$word\")) ;;\n"
         "        lock|elect|barrier|queue)\n"
         "            local dirs name\n"
         "            case $command in\n"
         "                lock) dirs=/locks ;;\n"
         "                elect) dirs=/elections ;;\n"
         "                barrier) dirs='/barriers /gates' ;;\n"
         "                queue) dirs=/queues ;;\n"
         "            esac\n"
         "            if [[ $command == queue && $last == queue ]]; then\n"
         "                COMPREPLY=($(compgen -W 'put take ls len' -- \"$word\"))\n"
         "                return\n"
         "            fi\n"
         "            words=\n"
         "            for name in $dirs; do\n"
         "                words+=\" $(muster --timeout 1 ls $name 2>/dev/null)\"\n"
         "            done\n"
         "            COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n"
         "        ls|get|set|stat|watch|create|delete)\n"
         "            local parent=${word%/*} name\n"
         "            [[ $word == /* ]] || parent=\n"
         "            for name in $(muster --timeout 1 ls \"${parent:-/}\" 2>/dev/null); do\n"
         "                words=$parent/$name\n"
         "                [[ $words == \"$word\"* ]] && COMPREPLY+=(\"$words\")\n"
         "            done\n"
         "            compopt -o nospace 2>/dev/null ;;\n"
         "    esac\n"
         "}\n"
         "complete -F _muster muster");
}

int cmd_completion(struct cmd_env *env, int argc, char **argv)
{
    (void)env, (void)argc;
    if (strcmp(argv[1], "bash") != 0)
        return cmd_fail(EXIT_USAGE, "completion", "only bash is known", NULL,
                        "muster completion bash");
    print_bash();
    return EXIT_OK;
}
