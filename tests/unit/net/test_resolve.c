/*
 * From hosts to addresses without a name server: numbers, /etc/hosts, failures, and who is told
 * when. What name servers answer is tested by the integration tests.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/buf.h"
#include "core/log.h"
#include "net/resolve.h"
#include "resolving.h"

#include <string.h>

enum { PATIENCE_MS = 5000, ASKED_MAX = 4 };

struct world {
    struct loop *loop;
    struct dns *dns;
    struct resolver *resolver;
    struct loop_timer tick;
    unsigned ticks;
    unsigned ticks_max;
    unsigned wanted; /* answers to wait for */
    struct resolve *asked[ASKED_MAX];
    unsigned answers;
    bool has_address;
    char text[400]; /* an error, or an address */
};

static void on_answer(void *owner, const char *address, const char *error) {
    struct world *world = owner;
    world->answers++;
    world->has_address = address != NULL;
    assert_true((address == NULL) != (error == NULL));
    (void)snprintf(world->text, sizeof world->text, "%s", address == NULL ? error : address);
}

static void world_init(struct world *world) {
    *world = (struct world){.loop = loop_new(), .dns = dns_new()};
    world->resolver = resolving_new(world->loop, world->dns);
}

static void world_release(struct world *world) {
    resolver_close(&world->resolver);
    resolver_close(&world->resolver);
    loop_free(&world->loop);
    dns_free(&world->dns);
}

static void on_tick(struct loop_timer *timer) {
    struct world *world = LIST_OWNER(timer, struct world, tick);
    if (world->answers >= world->wanted || ++world->ticks > world->ticks_max)
        loop_stop(world->loop);
}

/* Runs until so many answers have come, or for some time where that is less than it takes. */
static void run_until(struct world *world, unsigned wanted, unsigned ms) {
    world->wanted = wanted;
    world->ticks = 0;
    world->ticks_max = ms;
    world->tick.run = on_tick;
    loop_timer_start(world->loop, &world->tick, 0, 1);
    loop_run(world->loop);
    loop_timer_stop(&world->tick);
}

static void ask(struct world *world, unsigned i, const char *host) {
    world->asked[i] = resolve_begin(world->loop, host, false, on_answer, world);
}

static const struct {
    const char *host;
    bool is_known;
    const char *text; /* the address, or the beginning of the error */
} rows[] = {
    {"127.0.0.1", true, "127.0.0.1"},
    {"10.1.2.3", true, "10.1.2.3"},
    {"::1", true, "::1"},
    {"fe80::1:2", true, "fe80::1:2"},
    {"/run/postgresql", true, "/run/postgresql"},
    {"@abstract", true, "@abstract"},
    {"no.such.host.invalid", false, "server DNS lookup failed: no.such.host.invalid: "},
    {"a b", false, "server DNS lookup failed: a b: "},
    {"a..b", false, "server DNS lookup failed: a..b: "},
    {"\001\377%s", false, "server DNS lookup failed: \001\377%s: "},
    {"", false, "connect failed: no host, and unix_socket_dir is empty"},
};

static void hosts_give_addresses(void **unused) {
    (void)unused;
    for (size_t i = 0; i < COUNT(rows) * 2; i++) {
        struct world world;
        world_init(&world);
        ask(&world, 0, rows[i / 2].host);
        assert_int_equal(world.answers, 0);
        if (i % 2 == 1) {
            resolve_close(&world.asked[0]);
            assert_null(world.asked[0]);
            resolve_close(&world.asked[0]);
            run_until(&world, 1, 20);
            assert_int_equal(world.answers, 0);
        } else {
            run_until(&world, 1, PATIENCE_MS);
            assert_int_equal(world.answers, 1);
            assert_int_equal(world.has_address, rows[i / 2].is_known);
            size_t len = strlen(rows[i / 2].text) + rows[i / 2].is_known;
            if (strncmp(world.text, rows[i / 2].text, len) != 0)
                fail_msg("row %zu: %s", i / 2, world.text);
        }
        world_release(&world);
    }
}

static void localhost_is_the_loopback(void **unused) {
    (void)unused;
    struct world world;
    world_init(&world);
    ask(&world, 0, "localhost");
    run_until(&world, 1, PATIENCE_MS);
    assert_true(strcmp(world.text, "127.0.0.1") == 0 || strcmp(world.text, "::1") == 0);
    world_release(&world);
}

/* The longest name that can exist is asked for as it is; a longer one is refused, never cut. */
static void long_names_are_not_cut(void **unused) {
    (void)unused;
    static const size_t lengths[] = {159, 160, 253, 256, 1000};
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct world world;
        struct buf name = {0};
        world_init(&world);
        while (buf_length(&name) + 8 < lengths[i])
            buf_append_u8(&name, buf_length(&name) % 50 == 49 ? '.' : 'x');
        buf_append_text(&name, ".invalid");
        ask(&world, 0, buf_text(&name));
        run_until(&world, 1, PATIENCE_MS);
        assert_false(world.has_address);
        if (lengths[i] <= 253) {
            assert_non_null(strstr(world.text, ".invalid: "));
        } else {
            assert_string_equal(world.text, "server DNS lookup failed: the name is too long");
        }
        buf_release(&name);
        world_release(&world);
    }
}

/* Whoever asks while the name is asked for waits with the first, and may leave. */
static void one_question_serves_all(void **unused) {
    (void)unused;
    struct world world;
    world_init(&world);
    dns_set_ttls(world.dns, 0, 0); /* the answer counts for them although nobody may believe it */
    for (unsigned i = 0; i < ASKED_MAX; i++) {
        ask(&world, i, "no.such.host.invalid");
        assert_int_equal(dns_count(world.dns).asking, 1);
    }
    resolve_close(&world.asked[0]);
    resolve_close(&world.asked[2]);
    run_until(&world, ASKED_MAX, 200);
    assert_int_equal(world.answers, ASKED_MAX - 2);
    assert_int_equal(dns_count(world.dns).asking, 0);
    assert_int_equal(dns_count(world.dns).names, 1);
    assert_int_equal(dns_count(world.dns).zones, 1);
    world_release(&world);
}

/* The loop ends while questions are under way, and others are answered but not told. */
static void nobody_is_told_at_the_end(void **unused) {
    (void)unused;
    struct world world;
    world_init(&world);
    ask(&world, 0, "no.such.host.invalid");
    ask(&world, 1, "a..b");
    resolver_ask(world.resolver, "other.invalid", NULL);
    resolver_close(&world.resolver);
    resolve_close(&world.asked[0]);
    resolve_close(&world.asked[1]);
    assert_int_equal(world.answers, 0);
    assert_int_equal(dns_count(world.dns).asking, 0);
    world_release(&world);
}

static void a_failure_is_believed(void **unused) {
    (void)unused;
    struct world world;
    world_init(&world);
    dns_set_ttls(world.dns, 60000000, 60000000);
    ask(&world, 0, "no.such.host.invalid");
    run_until(&world, 1, PATIENCE_MS);
    ask(&world, 0, "no.such.host.invalid");
    assert_int_equal(dns_count(world.dns).asking, 0);
    run_until(&world, 2, PATIENCE_MS);
    assert_int_equal(world.answers, 2);
    assert_non_null(strstr(world.text, "server DNS lookup failed: no.such.host.invalid: "));
    world_release(&world);
}

static int quiet(void **unused) {
    (void)unused;
    return log_open(NULL, true) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_give_addresses),      cmocka_unit_test(localhost_is_the_loopback),
        cmocka_unit_test(long_names_are_not_cut),    cmocka_unit_test(one_question_serves_all),
        cmocka_unit_test(nobody_is_told_at_the_end), cmocka_unit_test(a_failure_is_believed),
    };
    return cmocka_run_group_tests(tests, quiet, NULL);
}
