/* SPDX-License-Identifier: Apache-2.0 */
/* spare.c -- segments that nothing needs any more become the next ones.
 *
 * Their blocks are written already: the log goes on in them without zeros being written first,
 * and a sync has nothing but data to bring to the disk. Their bytes stay until they are
 * written over; format.h says why none of them is ever taken for a record.
 *
 * They last as long as the process. What a crash has left of them is removed at open: then
 * nobody need know whether it was one name or two that the file has kept.
 */
#include <string.h>

#include "base/err.h"
#include "base/mutant.h"
#include "base/reached.h"
#include "store/state.h"

static int size_of(struct disk *d, const char *name, uint64_t *bytes)
{
    int file;
    int err = d->ops->open(d, name, 0, &file);

    if (err != 0)
        return err;
    err = d->ops->size(d, file, bytes);
    d->ops->close(d, file);
    return err;
}

static int remove_if_there(struct disk *d, const char *name)
{
    int err = d->ops->remove(d, name);

    return err == ERR_NOT_FOUND ? 0 : err;
}

int spare_keep(struct store *s, uint64_t seq)
{
    struct disk *d = s->disk;
    char name[FORMAT_NAME_MAX], spare[FORMAT_NAME_MAX];
    uint64_t bytes = 0;

    name_make(name, SEGMENT_PREFIX, seq);
    name_make(spare, SPARE_PREFIX, seq);
    bool is_kept = s->spares_n < SPARES_MAX && !s->is_tight && size_of(d, name, &bytes) == 0 &&
                   bytes <= s->options.segment_bytes + SEGMENT_STEP;
    if (!is_kept)
        return remove_if_there(d, name);
    int err = d->ops->rename(d, name, spare);
    if (err != 0)
        return err;
    s->spares[s->spares_n++] = (struct spare){.seq = seq, .bytes = bytes};
    s->spares_unsure = true;
    return 0;
}

int spare_take(struct store *s, char name[FORMAT_NAME_MAX], int *file, uint64_t *room)
{
    struct disk *d = s->disk;
    int err = ERR_NOT_FOUND;

    /* Were it written to while its old name may come back, a crash would leave a segment of
     * the log with another one's bytes. */
    if (s->spares_n > 0 && s->spares_unsure && !MUTANT(store_spare_early)) {
        if (d->ops->sync_dir(d) != 0)
            (void)spare_drop(s);
        else
            s->spares_unsure = false;
    }
    while (err == ERR_NOT_FOUND && s->spares_n > 0) { /* somebody may have removed one */
        const struct spare *last = &s->spares[--s->spares_n]; /* likely in memory yet */
        name_make(name, SPARE_PREFIX, last->seq);
        *room = last->bytes;
        err = d->ops->open(d, name, 0, file);
    }
    if (err != ERR_NOT_FOUND) {
        REACHED(store_segment_again);
        return err;
    }
    memcpy(name, SEGMENT_NEW, sizeof SEGMENT_NEW);
    *room = 0;
    err = d->ops->open(d, name, 1, file);
    return err == 0 ? d->ops->truncate(d, *file, 0) : err; /* a failed one's rest */
}

uint64_t spare_bytes(const struct store *s)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < s->spares_n; i++)
        bytes += s->spares[i].bytes;
    return bytes;
}

bool spare_drop(struct store *s)
{
    char name[FORMAT_NAME_MAX];
    bool is_dropped = s->spares_n > 0;

    while (s->spares_n > 0) {
        name_make(name, SPARE_PREFIX, s->spares[--s->spares_n].seq);
        (void)s->disk->ops->remove(s->disk, name); /* else open does it */
    }
    return is_dropped;
}

int spare_remove_found(struct disk *d)
{
    struct buf names = {0};
    uint64_t seq;
    int err = d->ops->list(d, &names);

    for (size_t i = 0; err == 0 && i < names.len;) {
        const char *name = (const char *)names.data + i;
        i += strlen(name) + 1;
        if (name_parse(name, SPARE_PREFIX, &seq) || strcmp(name, SEGMENT_NEW) == 0)
            err = remove_if_there(d, name);
    }
    buf_free(&names);
    return err;
}
