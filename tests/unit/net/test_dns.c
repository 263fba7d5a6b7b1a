/* The cache of host names: how long it believes what, and whose turn it is. */
#include "net/dns.h"

#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000)

static const char two[][DNS_ADDRESS_SIZE] = {"10.0.0.1", "fd00::2"};

static struct dns *new_cache(void) {
    struct dns *dns = dns_new();
    dns_set_ttls(dns, 15 * SECOND, 5 * SECOND);
    return dns;
}

/* What is known of a host at a time: "?" unknown, "!" failed, else the address. */
static void expect(struct dns *dns, uint64_t now_us, bool takes_turns, const char *expected) {
    char address[DNS_ADDRESS_SIZE] = "";
    enum dns_result result = dns_take(dns, "h", now_us, takes_turns, address);
    const char *found = result == DNS_UNKNOWN ? "?" : result == DNS_FAILED ? "!" : address;
    assert_string_equal(found, expected);
}

static void test_answers_are_believed_for_their_time(void **state) {
    (void)state;
    struct dns *dns = new_cache();
    expect(dns, SECOND, false, "?");
    dns_put(dns, "h", SECOND, two, 2);
    expect(dns, SECOND, false, "10.0.0.1");
    expect(dns, 16 * SECOND - 1, false, "10.0.0.1");
    expect(dns, 16 * SECOND, false, "?");
    dns_put(dns, "h", 20 * SECOND, NULL, 0);
    expect(dns, 20 * SECOND, false, "!");
    expect(dns, 25 * SECOND, false, "?");
    dns_put(dns, "h", 30 * SECOND, two, 1);
    expect(dns, 30 * SECOND, true, "10.0.0.1");
    expect(dns, 29 * SECOND, true, "10.0.0.1"); /* another loop's clock may be behind */
    dns_set_ttls(dns, 0, 0);
    expect(dns, 30 * SECOND, true, "?");
    dns_free(&dns);
    assert_null(dns);
    dns_free(&dns);
}

static void test_turns(void **state) {
    (void)state;
    struct dns *dns = new_cache();
    dns_put(dns, "h", 0, two, 2);
    expect(dns, 0, true, "10.0.0.1");
    expect(dns, 0, true, "fd00::2");
    expect(dns, 0, false, "10.0.0.1");
    expect(dns, 0, true, "10.0.0.1");
    dns_put(dns, "h", 0, two, 2); /* the turn goes on when it is asked for again */
    expect(dns, 0, true, "fd00::2");
    dns_free(&dns);
}

struct seen {
    unsigned count;
    uint64_t ttl_us;
    unsigned addresses;
};

static void see(void *owner, const struct dns_view *view) {
    struct seen *seen = owner;
    seen->count++;
    seen->ttl_us += view->ttl_us;
    seen->addresses += view->count;
}

static void test_views(void **state) {
    (void)state;
    struct dns *dns = new_cache();
    struct seen seen = {0};
    dns_put(dns, "h", 0, two, 2);
    dns_put(dns, "i", 0, NULL, 0);
    dns_asking(dns, 3);
    dns_asking(dns, -1);
    dns_each(dns, SECOND, see, &seen);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.ttl_us, 18 * SECOND);
    assert_int_equal(seen.addresses, 2);
    assert_int_equal(dns_count(dns, SECOND).names, 2);
    assert_int_equal(dns_count(dns, SECOND).asking, 2);
    assert_int_equal(dns_count(dns, 6 * SECOND).names, 1);
    dns_free(&dns);
}

static void test_what_is_used_no_more_goes(void **state) {
    (void)state;
    struct dns *dns = new_cache();
    char host[32];
    for (unsigned i = 0; i < 1000; i++) {
        (void)snprintf(host, sizeof host, "host%u", i);
        dns_put(dns, host, i * 20 * SECOND, two, 2);
    }
    assert_int_equal(dns_count(dns, 1000 * 20 * SECOND - 10 * SECOND).names, 1);
    dns_free(&dns);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_are_believed_for_their_time),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_what_is_used_no_more_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
