/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses with a lifetime, ours and others', and the device that an address belongs on. */
#include "host_world.h"

#include "base/err.h"
#include "base/mem.h"
#include "host/netlink.h"

static struct netlink *netlink;

static bool find(const char *address, struct netlink_address *out)
{
    struct netlink_address *v;
    size_t n;
    bool found = false;

    assert_int_equal(netlink_addresses(netlink, &v, &n), 0);
    for (size_t i = 0; i < n && !found; i++) {
        found = v[i].address.s_addr == ip(address).s_addr;
        *out = v[i];
    }
    mem_free(v);
    return found;
}

static void an_address_of_ours_is_marked_and_has_a_life(void **state)
{
    struct netlink_address a;

    (void)state;
    assert_int_equal(netlink_address_put(netlink, world.device, ip("10.9.0.100"), 32, 4001), 0);
    assert_true(find("10.9.0.100", &a));
    assert_int_equal(a.device, world.device);
    assert_int_equal(a.prefix, 32);
    assert_int_equal(a.proto, NETLINK_OURS);
    assert_int_equal(a.valid_s, 5); /* rounded up; the kernel counts whole seconds */
    assert_int_equal(netlink_address_put(netlink, world.device, ip("10.9.0.100"), 32, 90000),
                     0);
    assert_true(find("10.9.0.100", &a));
    assert_in_range(a.valid_s, 89, 90);
    assert_int_equal(netlink_address_remove(netlink, world.device, ip("10.9.0.100"), 32), 0);
    assert_false(find("10.9.0.100", &a));
    assert_int_equal(netlink_address_remove(netlink, world.device, ip("10.9.0.100"), 32),
                     ERR_NOT_FOUND);
}

static void a_prefix_makes_no_route(void **state)
{
    (void)state;
    assert_int_equal(netlink_address_put(netlink, world.device, ip("10.8.0.100"), 24, 5000), 0);
    assert_int_equal(run("ip route show | grep -q 10.8.0"), 1);
    assert_int_equal(netlink_address_remove(netlink, world.device, ip("10.8.0.100"), 24), 0);
}

static void an_address_of_others_is_known_as_such(void **state)
{
    struct netlink_address a;

    (void)state;
    assert_true(find("10.9.0.1", &a));
    assert_int_equal(a.prefix, 24);
    assert_int_not_equal(a.proto, NETLINK_OURS);
    assert_int_equal(a.valid_s, NETLINK_FOREVER);
}

static void nonsense_is_refused(void **state)
{
    struct netlink_device d;

    (void)state;
    assert_int_equal(netlink_address_put(netlink, 9999, ip("10.9.0.100"), 32, 1000),
                     ERR_NOT_FOUND);
    assert_int_equal(netlink_address_put(netlink, world.device, ip("10.9.0.100"), 33, 1000),
                     ERR_BAD_ARGUMENTS);
    assert_int_equal(netlink_address_put(netlink, world.device, ip("10.9.0.100"), 32, 0),
                     ERR_BAD_ARGUMENTS);
    assert_int_equal(
        netlink_address_put(netlink, world.device, ip("10.9.0.100"), 32, UINT64_MAX / 2),
        ERR_BAD_ARGUMENTS);
    assert_int_equal(netlink_device_get(netlink, 9999, &d), ERR_NOT_FOUND);
}

static void the_device_of_an_address_is_the_one_on_its_subnet(void **state)
{
    const struct in_addr any = {0};
    struct netlink_device d;
    unsigned device = 0;

    (void)state;
    assert_int_equal(netlink_device_for(netlink, ip("10.9.0.100"), any, &device), 0);
    assert_int_equal(device, world.device);
    assert_int_equal(netlink_device_for(netlink, ip("10.99.0.100"), any, &device),
                     ERR_NOT_FOUND);
    assert_int_equal(netlink_device_for(netlink, ip("127.0.0.5"), any, &device), ERR_NOT_FOUND);

    /* Two devices on the subnet: the one with our own address; a longer prefix before both. */
    assert_int_equal(
        run("ip link add d1 type veth peer name p1 && ip addr add 10.9.0.9/24 dev d1 && "
            "ip link add d2 type veth peer name p2 && ip addr add 10.9.0.201/29 dev d2"),
        0);
    unsigned d1 = if_nametoindex("d1"), d2 = if_nametoindex("d2");
    assert_int_equal(netlink_device_for(netlink, ip("10.9.0.100"), ip("10.9.0.1"), &device), 0);
    assert_int_equal(device, world.device);
    assert_int_equal(netlink_device_for(netlink, ip("10.9.0.100"), ip("10.9.0.9"), &device), 0);
    assert_int_equal(device, d1);
    assert_int_equal(netlink_device_for(netlink, ip("10.9.0.202"), ip("10.9.0.9"), &device), 0);
    assert_int_equal(device, d2);
    assert_int_equal(netlink_device_get(netlink, d1, &d), 0);
    assert_string_equal(d.name, "d1");
    assert_false(d.is_up);
    assert_int_equal(run("ip link del d1 && ip link del d2"), 0);
    assert_int_equal(netlink_device_get(netlink, world.device, &d), 0);
    assert_true(d.is_up && d.is_running && !d.is_loopback);
    assert_memory_equal(d.mac, world.mac, 6);
}

static void many_addresses_are_all_listed(void **state)
{
    struct netlink_address *v;
    size_t n;

    (void)state;
    assert_int_equal(run("ip link add d1 type veth peer name p1 && for i in $(seq 1 250); do "
                         "echo addr add 10.7.$i.1/32 dev d1; done | ip -batch -"),
                     0);
    assert_int_equal(run("for i in $(seq 1 250); do echo addr add 10.6.$i.1/32 dev d1; done | "
                         "ip -batch -"),
                     0);
    assert_int_equal(netlink_addresses(netlink, &v, &n), 0);
    assert_true(n >= 500);
    mem_free(v);
    assert_int_equal(run("ip link del d1"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_address_of_ours_is_marked_and_has_a_life),
        cmocka_unit_test(a_prefix_makes_no_route),
        cmocka_unit_test(an_address_of_others_is_known_as_such),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(the_device_of_an_address_is_the_one_on_its_subnet),
        cmocka_unit_test(many_addresses_are_all_listed),
    };

    if (!world_make("test_host_netlink"))
        return WORLD_SKIPPED;
    assert_int_equal(netlink_open(&netlink), 0);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    netlink_close(netlink);
    return failed;
}
