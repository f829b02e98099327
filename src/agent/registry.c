/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/registry.h"

#include <jansson.h>
#include <string.h>

#include "base/check.h"
#include "base/mem.h"

void registry_path(struct buf *out, const char *service, const char *machine, uint16_t port)
{
    buf_printf(out, "%s/%s/%s-%u", REGISTRY_ROOT, service, machine, port);
}

void registry_encode(struct buf *out, const char *service, const char *machine,
                     const char *address, uint16_t port, int64_t wall_ms)
{
    struct buf id = {0};

    buf_printf(&id, "%s-%u", machine, port);
    json_t *j = json_pack("{s:s, s:s, s:s, s:i, s:n, s:n, s:I, s:s, s:n}", "name", service,
                          "id", buf_text(&id), "address", address, "port", (int)port, "sslPort",
                          "payload", "registrationTimeUTC", (json_int_t)wall_ms, "serviceType",
                          "DYNAMIC", "uriSpec");
    CHECK(j != NULL);
    char *text = json_dumps(j, JSON_COMPACT);
    CHECK(text != NULL);
    buf_add_str(out, text);
    mem_free(text);
    json_decref(j);
    buf_free(&id);
}

bool registry_decode(const uint8_t *data, size_t len, const char *name,
                     struct balance_member *out)
{
    uint32_t number;
    uint8_t prefix;

    if (data == NULL || len > REGISTRY_BYTES_MAX || strlen(name) >= sizeof out->name ||
        !site_is_name(name, strlen(name)))
        return false;
    json_t *j = json_loadb((const char *)data, len, JSON_REJECT_DUPLICATES, NULL);
    const char *address = json_string_value(json_object_get(j, "address"));
    json_int_t port = json_integer_value(json_object_get(j, "port"));
    bool is_good = address != NULL && strlen(address) < SITE_ADDRESS_MAX && port > 0 &&
                   port < 65536 && site_ipv4(address, strlen(address), &number, &prefix) &&
                   prefix == 32;
    if (is_good) {
        *out = (struct balance_member){.port = (uint16_t)port};
        memcpy(out->name, name, strlen(name) + 1);
        memcpy(out->address, address, strlen(address) + 1);
    }
    json_decref(j);
    return is_good;
}
