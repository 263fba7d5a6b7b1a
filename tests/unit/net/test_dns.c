/* The cache of host names: how long it believes what, whose turn it is, and the zones. */
#include "net/dns.h"

#include "core/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define SECOND UINT64_C(1000000)

static const char both[][DNS_ADDRESS_SIZE] = {"10.0.0.1", "fd00::2"};
static const char moved[][DNS_ADDRESS_SIZE] = {"fd00::2", "10.0.0.3"};
static const struct dns_answer two = {both, 2, NULL};
static const struct dns_answer one = {both, 1, NULL};
static const struct dns_answer other = {moved, 2, NULL};
static const struct dns_answer none = {NULL, 0, "nobody knows"};

static struct dns *new_cache(void) {
    struct dns *dns = dns_new();
    dns_set_ttls(dns, 15 * SECOND, 5 * SECOND);
    return dns;
}

/* What is known of a host at a time: "?" unknown, "!" failed, else the address. */
static void expect(struct dns *dns, uint64_t now_us, bool takes_turns, const char *expected) {
    struct dns_found found = {.why = ""};
    enum dns_result result = dns_take(dns, "h", now_us, takes_turns, &found);
    if (result == DNS_FAILED) assert_string_equal(found.why, "nobody knows");
    const char *text = result == DNS_UNKNOWN ? "?" : result == DNS_FAILED ? "!" : found.address;
    assert_string_equal(text, expected);
}

static void answers_are_believed_for_their_time(void **state) {
    (void)state;
    struct dns *dns = new_cache();
    expect(dns, SECOND, false, "?");
    expect(dns, DNS_ANY_AGE, false, "?");
    dns_note(dns, "h");
    expect(dns, DNS_ANY_AGE, false, "?");
    dns_put(dns, "h", SECOND, &two);
    expect(dns, SECOND, false, "10.0.0.1");
    expect(dns, 16 * SECOND - 1, false, "10.0.0.1");
    expect(dns, 16 * SECOND, false, "?");
    expect(dns, DNS_ANY_AGE, false, "10.0.0.1");
    dns_put(dns, "h", 20 * SECOND, &none);
    expect(dns, 20 * SECOND, false, "!");
    expect(dns, 25 * SECOND, false, "?");
    expect(dns, DNS_ANY_AGE, false, "!");
    dns_put(dns, "h", 30 * SECOND, &one);
    expect(dns, 30 * SECOND, true, "10.0.0.1");
    expect(dns, 29 * SECOND, true, "10.0.0.1"); /* another loop's clock may be behind */
    dns_set_ttls(dns, 0, 0);
    expect(dns, 30 * SECOND, true, "?");
    dns_free(&dns);
    assert_null(dns);
    dns_free(&dns);
}

static void addresses_take_turns(void **state) {
    (void)state;
    struct dns *dns = new_cache();
    dns_put(dns, "h", SECOND, &two);
    expect(dns, SECOND, true, "10.0.0.1");
    expect(dns, SECOND, true, "fd00::2");
    expect(dns, SECOND, false, "10.0.0.1");
    expect(dns, SECOND, true, "10.0.0.1");
    dns_put(dns, "h", SECOND, &two); /* the turn goes on when it is asked for again */
    expect(dns, SECOND, true, "fd00::2");
    dns_free(&dns);
}

/* An address that an answer lacks has been left; a failure tells nothing. */
static void moves_are_noticed(void **state) {
    (void)state;
    static const struct {
        const struct dns_answer *answer;
        uint32_t changes;     /* in all, after the answer */
        bool has_left_first;  /* 10.0.0.1 */
        bool has_left_second; /* fd00::2 */
    } rows[] = {
        {&one, 0, false, true},  {&two, 0, false, false},  {&none, 0, false, false},
        {&two, 0, false, false}, {&other, 1, true, false}, {&none, 1, false, false},
        {&one, 2, false, true},  {&one, 2, false, true},
    };
    struct dns *dns = new_cache();
    assert_false(dns_has_left(dns, "h", "10.0.0.1"));
    for (size_t i = 0; i < COUNT(rows); i++) {
        dns_put(dns, "h", SECOND, rows[i].answer);
        assert_int_equal(dns_changes(dns), rows[i].changes);
        assert_int_equal(dns_has_left(dns, "h", "10.0.0.1"), rows[i].has_left_first);
        assert_int_equal(dns_has_left(dns, "h", "fd00::2"), rows[i].has_left_second);
        assert_false(dns_has_left(dns, "i", "10.0.0.1"));
    }
    dns_free(&dns);
}

static void see(void *owner, const struct dns_view *view) {
    buf_append_format(owner, "%s %u %u, ", view->host, (unsigned)(view->ttl_us / SECOND),
                      view->count);
}

static void see_zone(void *owner, const struct dns_zone_view *view) {
    buf_append_format(owner, "%s %u %u, ", view->zone, view->serial, view->hosts);
}

static void views_are_in_order(void **state) {
    (void)state;
    struct dns *dns = new_cache();
    struct buf seen = {0};
    dns_put(dns, "i", SECOND, &none);
    dns_put(dns, "h", SECOND, &two);
    dns_note(dns, "g");
    dns_asking(dns, 3);
    dns_asking(dns, -1);
    dns_each(dns, 2 * SECOND, see, &seen);
    dns_each(dns, 10 * SECOND, see, &seen);
    dns_put(dns, "h", 10 * SECOND, &none);
    dns_each(dns, 10 * SECOND, see, &seen);
    assert_string_equal(buf_text(&seen), "g 0 0, h 14 2, i 4 0, "
                                         "g 0 0, h 6 2, i 0 0, "
                                         "g 0 0, h 5 0, i 0 0, ");
    struct dns_counts counts = dns_count(dns);
    assert_int_equal(counts.names, 3);
    assert_int_equal(counts.zones, 0);
    assert_int_equal(counts.asking, 2);
    buf_release(&seen);
    dns_free(&dns);
}

static void zones_are_what_follows_the_dot(void **state) {
    (void)state;
    static const char *const hosts[] = {"b.y.test", "a.x.test", "c.Y.test",
                                        "plain",    "dot.",     "d.y.test."};
    struct dns *dns = new_cache();
    struct buf seen = {0};
    char zone[DNS_NAME_SIZE];
    for (size_t i = 0; i < COUNT(hosts); i++) dns_note(dns, hosts[i]);
    dns_each_zone(dns, see_zone, &seen);
    assert_string_equal(buf_text(&seen), "x.test 0 1, y.test 0 2, y.test. 0 1, ");
    assert_int_equal(dns_count(dns).zones, 3);
    assert_true(dns_zone_at(dns, 1, zone));
    assert_string_equal(zone, "y.test");
    assert_false(dns_zone_at(dns, 3, zone));
    buf_clear(&seen);
    dns_zone_hosts(dns, "y.test", &seen);
    assert_int_equal(buf_length(&seen), 18);
    assert_memory_equal(buf_text(&seen), "b.y.test\0c.Y.test\0", 18);
    buf_clear(&seen);
    dns_zone_hosts(dns, "z.test", &seen);
    assert_int_equal(buf_length(&seen), 0);
    buf_release(&seen);
    dns_free(&dns);
}

static void serials_grow(void **state) {
    (void)state;
    static const struct {
        uint32_t serial;
        bool is_news;
        uint32_t old;
    } rows[] = {
        {4000000000, true, 0},  {4000000000, false, 0},
        {3999999999, false, 0}, {4000000001, true, 4000000000},
        {5, true, 4000000001}, /* around the end */
        {4, false, 0},
    };
    struct dns *dns = new_cache();
    uint32_t old = 0;
    assert_false(dns_zone_note(dns, "test", 1, &old));
    dns_note(dns, "h.test");
    for (size_t i = 0; i < COUNT(rows); i++) {
        old = 0;
        assert_int_equal(dns_zone_note(dns, "test", rows[i].serial, &old), rows[i].is_news);
        assert_int_equal(old, rows[i].old);
    }
    dns_free(&dns);
}

/* Names of files that were reloaded away go, and their zones with them. */
static void what_is_used_no_more_goes(void **state) {
    (void)state;
    struct dns *dns = new_cache();
    char host[32];
    for (unsigned i = 0; i < 3000; i++) {
        (void)snprintf(host, sizeof host, "h.zone%u", i);
        dns_put(dns, host, (i + 1) * 20 * SECOND, &two);
    }
    assert_true(dns_count(dns).names < 1100);
    assert_int_equal(dns_count(dns).names, dns_count(dns).zones);
    dns_free(&dns);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_believed_for_their_time),
        cmocka_unit_test(addresses_take_turns),
        cmocka_unit_test(moves_are_noticed),
        cmocka_unit_test(views_are_in_order),
        cmocka_unit_test(zones_are_what_follows_the_dot),
        cmocka_unit_test(serials_grow),
        cmocka_unit_test(what_is_used_no_more_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
