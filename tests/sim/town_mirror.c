/* SPDX-License-Identifier: Apache-2.0 */
#include "town_mirror.h"

#include <string.h>

#include "tree/watch.h"

static bool is_at_or_below(const char *path, const char *root)
{
    size_t n = strlen(root);

    return strncmp(path, root, n) == 0 && (path[n] == 0 || path[n] == '/');
}

/* Every change of its data and existence is told. */
static bool is_followed(const struct mirror *m, unsigned i)
{
    bool is = m->paths[i].is_persistent;

    for (unsigned k = 0; k < MIRROR_PATHS; k++)
        is |= m->paths[k].is_recursive && is_at_or_below(m->names[i], m->names[k]);
    return is;
}

void mirror_disconnected(struct mirror *m)
{
    for (unsigned i = 0; i < MIRROR_PATHS; i++)
        m->paths[i].is_valid = false;
}

/* ---- events ---- */

static void fire(struct mirror_path *p, struct mirror_shot *shot)
{
    bool is_child = shot == &p->child;

    if (shot->is_armed && shot->at.exists)
        *(is_child ? &p->old_pzxid : &p->old_mzxid) =
            is_child ? shot->at.pzxid : shot->at.mzxid;
    shot->is_armed = false;
}

static const char *follow(struct mirror_path *p, int type)
{
    struct mirror_stat *n = &p->now;

    if (!p->is_valid)
        return NULL;
    switch (type) {
    case WATCH_CREATED:
        if (n->exists)
            return "is told to be created, and was there";
        *n = (struct mirror_stat){.exists = true};
        return NULL;
    case WATCH_DELETED:
        if (!n->exists)
            return "is told to be deleted, and was not there";
        *n = (struct mirror_stat){0};
        return NULL;
    case WATCH_DATA_CHANGED:
        if (!n->exists)
            return "is told to be set, and was not there";
        n->version++;
        return NULL;
    default:
        if (!n->exists)
            return "is told to have other children, and was not there";
        n->cversion++;
        return NULL;
    }
}

const char *mirror_event(struct mirror *m, int type, const char *path)
{
    unsigned i = 0;

    while (i < MIRROR_PATHS && strcmp(m->names[i], path) != 0)
        i++;
    if (i == MIRROR_PATHS)
        return NULL;
    struct mirror_path *p = &m->paths[i];
    bool is_deleted = type == WATCH_DELETED, is_child = type == WATCH_CHILDREN_CHANGED;
    bool is_wanted =
        (!is_child && p->data.is_armed) || ((is_child || is_deleted) && p->child.is_armed) ||
        (is_deleted && p->is_spare) || (is_child ? p->is_persistent : is_followed(m, i));
    if (!is_wanted)
        return "has an event, and no watch";
    if (is_deleted)
        p->is_spare = p->data.is_armed && p->child.is_armed;
    if (!is_child)
        fire(p, &p->data);
    if (is_child || is_deleted)
        fire(p, &p->child);
    return is_followed(m, i) ? follow(p, type) : NULL;
}

/* ---- answers ---- */

static const char *one_shots(struct mirror_path *p, const struct mirror_stat *s)
{
    const struct mirror_stat *d = &p->data.at, *c = &p->child.at;

    if (p->data.is_armed && (s->exists != d->exists || s->mzxid != d->mzxid))
        return "has changed, and its watch was silent";
    if (p->child.is_armed && (!s->exists || s->pzxid != c->pzxid))
        return "has other children, and its watch was silent";
    bool is_same = s->exists && p->old_mzxid != 0 && s->mzxid == p->old_mzxid;
    bool is_same_child = s->exists && p->old_pzxid != 0 && s->pzxid == p->old_pzxid;
    p->old_mzxid = p->old_pzxid = 0;
    if (is_same)
        return "is as it was, though its watch told of a change";
    if (is_same_child)
        return "has the children it had, though its watch told of others";
    return NULL;
}

const char *mirror_read(struct mirror *m, unsigned i, const struct mirror_stat *s)
{
    struct mirror_path *p = &m->paths[i];
    const struct mirror_stat *n = &p->now;
    const char *wrong = one_shots(p, s);

    if (wrong != NULL)
        return wrong;
    if (s->exists && s->mzxid < p->seen_mzxid)
        return "is older than what was seen of it";
    if (s->exists)
        p->seen_mzxid = s->mzxid;
    if (!is_followed(m, i))
        return NULL;
    if (p->is_valid && (s->exists != n->exists || (s->exists && s->version != n->version)))
        return "is not what its persistent watch has told";
    if (p->is_valid && p->is_persistent && s->exists && s->cversion != n->cversion)
        return "has other children than its persistent watch has told";
    p->is_valid = true;
    p->now = *s;
    return NULL;
}

void mirror_arm(struct mirror *m, unsigned i, const struct mirror_stat *s, bool is_child)
{
    struct mirror_path *p = &m->paths[i];

    *(is_child ? &p->child : &p->data) = (struct mirror_shot){true, *s};
    p->is_spare = false;
}

void mirror_watch(struct mirror *m, unsigned i, bool is_recursive)
{
    struct mirror_path *p = &m->paths[i];

    /* What was followed by another watch is followed on. */
    for (unsigned k = 0; k < MIRROR_PATHS; k++) {
        bool is_new = is_recursive
                          ? is_at_or_below(m->names[k], m->names[i]) && !is_followed(m, k)
                          : k == i && !p->is_persistent;
        if (is_new)
            m->paths[k].is_valid = false;
    }
    if (is_recursive)
        p->is_recursive = true;
    else
        p->is_persistent = true;
}
