/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/machine.h"

#include <jansson.h>
#include <string.h>

#include "agent/text.h"
#include "base/check.h"
#include "base/mem.h"

/* Cut to what fits. What is no UTF-8 (a program's output) becomes "?": JSON has no other. */
static json_t *text_json(const char *text)
{
    json_t *j = json_string(text);

    if (j == NULL) {
        char *ascii = mem_dup_str(text);
        for (char *c = ascii; *c != 0; c++)
            if ((unsigned char)*c >= 0x80)
                *c = '?';
        j = json_string(ascii);
        mem_free(ascii);
    }
    CHECK(j != NULL);
    return j;
}

static void copy(char *to, size_t size, const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    text_copy(to, size, text != NULL ? text : "");
}

static void dump_take(struct buf *out, json_t *j)
{
    CHECK(j != NULL);
    char *text = json_dumps(j, JSON_COMPACT);
    CHECK(text != NULL);
    buf_add_str(out, text);
    mem_free(text);
    json_decref(j);
}

static bool is_address(const char *text)
{
    uint32_t number;
    uint8_t prefix;

    return site_ipv4(text, strlen(text), &number, &prefix) && prefix == 32;
}

void machine_identity_encode(struct buf *out, const struct machine_identity *m)
{
    dump_take(out, json_pack("{s:s, s:s, s:s, s:I}", "name", m->name, "address", m->address,
                             "id", m->id, "joined", (json_int_t)m->joined_wall_ms));
}

bool machine_identity_decode(const uint8_t *data, size_t len, const char *name,
                             struct machine_identity *out)
{
    *out = (struct machine_identity){.joined_wall_ms = 0};
    if (strlen(name) >= SITE_NAME_MAX || !site_is_name(name, strlen(name)))
        return false;
    memcpy(out->name, name, strlen(name) + 1);
    if (data == NULL || len > MACHINE_BYTES_MAX)
        return false;
    json_t *j = json_loadb((const char *)data, len, 0, NULL);
    copy(out->address, sizeof out->address, j, "address");
    copy(out->id, sizeof out->id, j, "id");
    out->joined_wall_ms = json_integer_value(json_object_get(j, "joined"));
    json_decref(j);
    if (!is_address(out->address))
        out->address[0] = 0;
    return out->address[0] != 0;
}

void machine_health_encode(struct buf *out, const struct machine_health *h)
{
    json_t *addresses = json_array(), *instances = json_array(), *pools = json_array();

    for (unsigned i = 0; i < h->addresses_n; i++) {
        const struct machine_address *a = &h->addresses[i];
        json_array_append_new(addresses,
                              json_pack("{s:s, s:s, s:o, s:b}", "address", a->address, "state",
                                        a->state, "why", text_json(a->why), "avoided",
                                        (int)a->is_avoided));
    }
    for (unsigned i = 0; i < h->instances_n; i++) {
        const struct machine_instance *s = &h->instances[i];
        json_array_append_new(instances, json_pack("{s:s, s:i, s:s, s:o, s:I}", "service",
                                                   s->service, "port", (int)s->port, "state",
                                                   s->state, "why", text_json(s->why), "since",
                                                   (json_int_t)s->since_wall_ms));
    }
    for (unsigned i = 0; i < h->pools_n; i++) {
        const struct machine_pool *p = &h->pools[i];
        json_array_append_new(pools,
                              json_pack("{s:s, s:i, s:i, s:b, s:o}", "service", p->service,
                                        "on", (int)p->on, "slots", (int)p->slots, "kept",
                                        (int)p->is_kept, "why", text_json(p->why)));
    }
    dump_take(out, json_pack("{s:o, s:I, s:i, s:b, s:o, s:o, s:o, s:o, s:o}", "version",
                             text_json(h->version), "started", (json_int_t)h->started_wall_ms,
                             "load_x100", (int)(h->load_x100 & INT32_MAX), "fit",
                             (int)h->is_fit, "unfit_why", text_json(h->unfit_why),
                             "balance_failed", text_json(h->balance_failed), "addresses",
                             addresses, "instances", instances, "pools", pools));
}

static uint32_t small(const json_t *object, const char *key, uint32_t most)
{
    json_int_t v = json_integer_value(json_object_get(object, key));

    return v < 0 ? 0 : v > (json_int_t)most ? most : (uint32_t)v;
}

static void decode_lists(const json_t *j, struct machine_health *h)
{
    const json_t *list = json_object_get(j, "addresses");

    for (size_t i = 0; i < json_array_size(list) && i < SITE_ADDRESSES_MAX; i++) {
        const json_t *o = json_array_get(list, i);
        struct machine_address *a = &h->addresses[h->addresses_n++];
        copy(a->address, sizeof a->address, o, "address");
        copy(a->state, sizeof a->state, o, "state");
        copy(a->why, sizeof a->why, o, "why");
        a->is_avoided = json_is_true(json_object_get(o, "avoided"));
    }
    list = json_object_get(j, "instances");
    size_t n = json_array_size(list) < MACHINE_INSTANCES_MAX ? json_array_size(list)
                                                             : MACHINE_INSTANCES_MAX;
    h->instances = mem_new_array(struct machine_instance, n);
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        struct machine_instance *s = &h->instances[h->instances_n++];
        copy(s->service, sizeof s->service, o, "service");
        s->port = (uint16_t)small(o, "port", 65535);
        copy(s->state, sizeof s->state, o, "state");
        copy(s->why, sizeof s->why, o, "why");
        s->since_wall_ms = json_integer_value(json_object_get(o, "since"));
    }
    list = json_object_get(j, "pools");
    for (size_t i = 0; i < json_array_size(list) && i < SITE_BALANCE_MAX; i++) {
        const json_t *o = json_array_get(list, i);
        struct machine_pool *p = &h->pools[h->pools_n++];
        copy(p->service, sizeof p->service, o, "service");
        p->on = small(o, "on", UINT16_MAX);
        p->slots = small(o, "slots", UINT16_MAX);
        p->is_kept = json_is_true(json_object_get(o, "kept"));
        copy(p->why, sizeof p->why, o, "why");
    }
}

bool machine_health_decode(const uint8_t *data, size_t len, struct machine_health **out)
{
    if (data == NULL || len > MACHINE_BYTES_MAX)
        return false;
    json_t *j = json_loadb((const char *)data, len, 0, NULL);
    if (!json_is_object(j)) {
        json_decref(j);
        return false;
    }
    struct machine_health *h = mem_new(struct machine_health);
    copy(h->version, sizeof h->version, j, "version");
    h->started_wall_ms = json_integer_value(json_object_get(j, "started"));
    h->load_x100 = small(j, "load_x100", INT32_MAX);
    h->is_fit = json_is_true(json_object_get(j, "fit"));
    copy(h->unfit_why, sizeof h->unfit_why, j, "unfit_why");
    copy(h->balance_failed, sizeof h->balance_failed, j, "balance_failed");
    decode_lists(j, h);
    json_decref(j);
    *out = h;
    return true;
}

void machine_health_free(struct machine_health *h)
{
    if (h == NULL)
        return;
    mem_free(h->instances);
    mem_free(h);
}
