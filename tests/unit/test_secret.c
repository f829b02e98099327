/* SPDX-License-Identifier: Apache-2.0 */
/* What goes over the wire and onto disks, byte for byte. The expected bytes come from
 * elsewhere: OpenSSL 3.0 gave the proofs and seals (muster used it), Java 17 the hashes
 * (ZooKeeper does). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/err.h"
#include "server/secret.h"
#include "server/settings.h"

static void is_hex(const uint8_t *data, size_t len, const char *hex)
{
    char text[512];

    assert_int_equal(strlen(hex), 2 * len);
    for (size_t i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", data[i]);
    assert_string_equal(text, hex);
}

static void proofs_are_what_they_were(void **state)
{
    uint8_t proof[PROOF_LEN], long_key[100];
    (void)state;
    secret_proof((const uint8_t *)"key", 3, "label", "data", 4, proof);
    is_hex(proof, PROOF_LEN,
           "dadeb58f99604db2d6efbc120e077aaba481769d2981ae6baaa9afbfff9d9df5");
    memset(long_key, 7, sizeof long_key); /* longer than a block: it is hashed first */
    secret_proof(long_key, sizeof long_key, "", "", 0, proof);
    is_hex(proof, PROOF_LEN,
           "276baac2741efcfa08cad9119739c931ec3ce3bfc830fdddb1298f35df1d6904");
}

static void equal_is_equal_in_every_byte(void **state)
{
    uint8_t a[PROOF_LEN] = {1, 2, 3}, b[PROOF_LEN] = {1, 2, 3};
    (void)state;
    assert_true(secret_equal(a, b, sizeof a));
    assert_true(secret_equal(a, b, 0));
    for (size_t i = 0; i < sizeof a; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            b[i] ^= (uint8_t)(1u << bit);
            assert_false(secret_equal(a, b, sizeof a));
            b[i] ^= (uint8_t)(1u << bit);
        }
}

static const struct {
    const char *name, *hash;
} hashes[] = {
    {"MD2", "Fs32E4cLrgFopKllooZjAg=="},
    {"MD5", "yzhcGieXAe2NBWh0Znxa3g=="},
    {"SHA", "D/InIHSb7yEEbrWz8b9l71RjZJU="},
    {"SHA1", "D/InIHSb7yEEbrWz8b9l71RjZJU="},
    {"SHA-1", "D/InIHSb7yEEbrWz8b9l71RjZJU="},
    {"sha1", "D/InIHSb7yEEbrWz8b9l71RjZJU="},
    {"SHA224", "opwh3FU/0WUpM+8JAOS98bsQFC+823kv438mIg=="},
    {"SHA-224", "opwh3FU/0WUpM+8JAOS98bsQFC+823kv438mIg=="},
    {"SHA256", "wjySwxg860UATFtciuZ1lpzrCHrPeov6SPu/ZD56uig="},
    {"SHA-256", "wjySwxg860UATFtciuZ1lpzrCHrPeov6SPu/ZD56uig="},
    {"SHA384", "FA/2SgoedA21NnGcUl5C1HBsMwuibAPXlAq/FqXTuUQPExUJgxpf8gWeD4eOupjP"},
    {"SHA-384", "FA/2SgoedA21NnGcUl5C1HBsMwuibAPXlAq/FqXTuUQPExUJgxpf8gWeD4eOupjP"},
    {"SHA512", "cMAGk13FCMtJkaVQImGEKhjqoGELCiVjYdIhiD8stB1FnIpdGeFvKwAHh5mf4tUYmBR2ZY9181dZ"
               "TXEHMlkVhg=="},
    {"SHA-512", "cMAGk13FCMtJkaVQImGEKhjqoGELCiVjYdIhiD8stB1FnIpdGeFvKwAHh5mf4tUYmBR2ZY9181dZ"
                "TXEHMlkVhg=="},
    {"SHA512/224", "Jbob8j2c9tikAuLuqxcIJr3TG4aS6fcELZsiHw=="},
    {"SHA-512/224", "Jbob8j2c9tikAuLuqxcIJr3TG4aS6fcELZsiHw=="},
    {"SHA512/256", "GV6U44a5U7SXgFZS9GkWgmwq2+im64wGlYXjCHia3mo="},
    {"SHA-512/256", "GV6U44a5U7SXgFZS9GkWgmwq2+im64wGlYXjCHia3mo="},
    {"SHA3-224", "774X6Nz1d3BUO6raVFndfjoMF6e1LHrnHVv5IA=="},
    {"SHA3-256", "cRy/KPYuDpW/dtsepniTMpuiuupnWgdU9txltIfv3hA="},
    {"SHA3-384", "a3efqz9Fj+qRHgJMpOPAzqpMP86/aPKowwZfSsm/gM+qBf87ZmeQYtueLs53P8Rw"},
    {"SHA3-512", "AdTSPtJYC1bEo1Z0UG5z1VXkw2AEUReEjF0RV0jap6VKcDva8ZPEO/WxrOy888alfiJyM5cm5BKh"
                 "rI4X/YFcTg=="},
};

static void a_password_is_hashed_as_by_zookeeper(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof hashes / sizeof hashes[0]; i++) {
        struct buf out = {0};

        buf_add_str(&out, "super:"); /* it is appended */
        assert_int_equal(secret_digest(hashes[i].name, "super:test", 10, &out), 0);
        assert_string_equal(buf_text(&out) + 6, hashes[i].hash);
        buf_free(&out);
    }
}

static void a_hash_that_is_not_known_is_refused_at_the_start(void **state)
{
    static const char *const unknown[] = {"", "-", "SHA2", "SHA-2560", "SHA-25", "SHA3", "MD4"};
    struct settings s = settings_default();
    struct buf why = {0};
    (void)state;
    assert_int_equal(settings_check(&s, &why), 0);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        struct buf out = {0};

        assert_int_equal(secret_digest(unknown[i], "super:test", 10, &out), ERR_NOT_FOUND);
        assert_int_equal(out.len, 0);
        snprintf(s.digest_algorithm, sizeof s.digest_algorithm, "%s", unknown[i]);
        buf_clear(&why);
        assert_int_equal(settings_check(&s, &why), ERR_BAD_ARGUMENTS);
        assert_non_null(strstr(buf_text(&why), "digestAlg: there is no hash"));
        assert_non_null(strstr(buf_text(&why), " SHA3-512"));
    }
    buf_free(&why);
}

static const struct {
    size_t len;
    const char *sealed;
} seals[] = {
    {0, "f05d76ae4ab99fe5a6f69b3148c2363d"},
    {1, "0ec0a8ea43e90f99cd599476733a992956"},
    {16, "0ebbbbcba90fa98c3097ef784c77f3f0e45ebdbfec0e18475e4874818f698183"},
    {37,
     "0ebbbbcba90fa98c3097ef784c77f3f0a23428d6a412fa8e2831053e01348f8faeb80849d61af3c7526185"
     "f213ed4e6d7698ca97f1"},
    {100,
     "0ebbbbcba90fa98c3097ef784c77f3f0a23428d6a412fa8e2831053e01348f8faeb80849d6f1b2172bdc5"
     "7d8f5f52b07f9501f8315023c24d839a9bbeecbfc5d29a8f0df4d32ba132b76d5ca023f6ab06d2208dc6c"
     "fb1f205cc9623e7ad4432977f6e0b2b6530ae5a1d2ab3ce691512a476b40f6"},
};

static void seals_are_what_they_were(void **state)
{
    uint8_t key[PROOF_LEN], data[100], sealed[100 + SEALED_EXTRA], back[100];
    (void)state;
    for (size_t i = 0; i < sizeof key; i++)
        key[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(7 * i);
    for (size_t i = 0; i < sizeof seals / sizeof seals[0]; i++) {
        const size_t len = seals[i].len, whole = len + SEALED_EXTRA;

        secret_seal(key, data, len, sealed);
        is_hex(sealed, whole, seals[i].sealed);
        assert_int_equal(secret_open(key, sealed, whole, back), 0);
        assert_memory_equal(back, data, len);
        for (size_t at = 0; at < whole; at++) {
            sealed[at] ^= 1;
            assert_int_equal(secret_open(key, sealed, whole, back), ERR_REFUSED);
            sealed[at] ^= 1;
        }
        for (size_t cut = 0; cut < whole; cut++)
            assert_int_equal(secret_open(key, sealed, cut, back), ERR_REFUSED);
        key[31] ^= 1;
        assert_int_equal(secret_open(key, sealed, whole, back), ERR_REFUSED);
        key[31] ^= 1;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proofs_are_what_they_were),
        cmocka_unit_test(equal_is_equal_in_every_byte),
        cmocka_unit_test(a_password_is_hashed_as_by_zookeeper),
        cmocka_unit_test(a_hash_that_is_not_known_is_refused_at_the_start),
        cmocka_unit_test(seals_are_what_they_were),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
