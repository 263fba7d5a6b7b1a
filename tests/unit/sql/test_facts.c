/* Facts: what the catalog's rows come to for statements. */
#include "core/check.h"
#include "core/memory.h"
#include "sql/facts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define DATABASE 77u

/* A small shop. Ids of relations and functions have nothing to do with each other. */
static const struct facts_row rows[] = {
    {'r', 1259, 0, "rp", "pg_catalog", "pg_class"},
    {'r', 12000, 0, "vp", "pg_catalog", "pg_locks"},
    {'r', 20001, 0, "rp", "public", "customers"},
    {'r', 20002, 0, "rp", "public", "orders"},
    {'r', 20003, 0, "rp", "public", "items"},
    {'r', 20004, 0, "ru", "public", "sessions"},
    {'r', 20005, 0, "fp", "public", "far"},
    {'r', 20021, 0, "fp", "public", "near"},
    {'r', 20006, 0, "Sp", "public", "numbers"},
    {'r', 20007, 0, "pp", "public", "events"},
    {'r', 20008, 0, "rp", "public", "events_1"},
    {'r', 20009, 0, "rp", "archive", "orders"},
    {'r', 20010, 0, "rp", "public", "audited"},
    {'r', 20011, 0, "rp", "public", "stamped"},
    {'r', 20012, 0, "vp", "public", "open_orders"},
    {'r', 20013, 0, "vp", "public", "bumping"},
    {'r', 20014, 0, "vp", "public", "of_views"},
    {'r', 20015, 0, "mp", "public", "kept"},
    {'r', 20016, 0, "vp", "public", "waiting"},
    {'r', 20017, 0, "rp", "public", "guarded"},
    {'r', 20018, 0, "rp", "public", "ruled"},
    {'r', 20019, 0, "rp", "public", "mixed"},
    {'r', 20020, 0, "rp", "public", "mixed_far"},
    {'f', 20001, 0, "vq", "public", "bump"},
    {'f', 20002, 0, "sq", "public", "total"},
    {'f', 20003, 0, "ic", "public", "distance"},
    {'f', 20004, 0, "sb", "public", "closed"},
    {'f', 20005, 0, "sq", "public", "sneaky"},
    {'f', 20006, 0, "vqtm", "public", "audit"},
    {'f', 20007, 0, "vqt", "public", "stamp"},
    {'f', 20008, 0, "vq", "public", "lower"},
    {'f', 20009, 0, "vc", "public", "gen_random_bytes"},
    {'f', 20010, 0, "vq", "public", "allowed"},
    {'f', 20011, 0, "sqw", "public", "full_name"},
    {'f', 20012, 0, "vqw", "public", "touched"},
    {'f', 20013, 0, "vq", "other", "total"},
    {'f', 20014, 0, "sx", "public", "perlish"},
    {'o', 20001, 0, "", "public", "##"},
    {'y', 20001, 0, "", "public", "checked"},
    {'v', 20012, 20002, "r", "", ""},
    {'v', 20012, 20003, "r", "", ""},
    {'u', 20013, 20001, "r", "", ""},
    {'v', 20014, 20013, "r", "", ""},
    {'v', 20015, 20004, "r", "", ""},
    {'v', 20016, 12000, "r", "", ""},
    {'u', 20017, 2880, "r", "", "pg_advisory_lock"},
    {'i', 20007, 20008, "r", "", ""},
    {'i', 20019, 20020, "r", "", ""},
    {'k', 20001, 20002, "r", "", ""},
    {'k', 20002, 20003, "r", "", ""},
    {'d', 20010, 20006, "r", "", ""},
    {'d', 20011, 20007, "r", "", ""},
    {'d', 20003, 1574, "r", "", "nextval"},
    {'a', 20018, 0, "r", "", ""},
    {'v', 20004, 20003, "f", "", ""},
    {'w', 20005, 0, "f", "", "bump"},
    {'w', 20002, 0, "f", "", "count"},
    {'w', 20007, 0, "f", "", "clock_timestamp"},
    {'w', 20007, 0, "f", "", "pg_notify"},
};

static uint32_t generation = 1;

static struct facts *make(void) {
    struct facts_builder *builder = facts_builder_new(DATABASE, "public.allowed, nothing,near");
    for (size_t i = 0; i < COUNT(rows); i++) facts_builder_add(builder, &rows[i]);
    return facts_builder_end(&builder, ++generation, 5);
}

static struct traits_context context = {NULL, true, true, NULL};

static const struct traits *look(struct traits_cache *cache, const char *text) {
    return traits_of(cache, bytes_of_text(text), &context, 1);
}

/* The reach as text: "*" for everything, else the relations' names. */
static void reach_text(const struct facts *facts, const struct reach *reach, char text[256]) {
    static const char *const names[] = {"public.customers", "public.orders",  "archive.orders",
                                        "public.items",     "public.events",  "public.audited",
                                        "public.stamped",   "public.guarded", "public.kept",
                                        "public.ruled",     "public.mixed",   "public.sessions"};
    struct findings found = {0};
    struct traits one;
    text[0] = '\0';
    if (reach->is_all) {
        (void)snprintf(text, 256, "*");
        return;
    }
    for (size_t i = 0; i < COUNT(names); i++) {
        char name[64];
        int len = snprintf(name, sizeof name, "r%s", names[i]);
        facts_resolve(facts, &found, bytes_of(name, (size_t)len + 1), &one);
        assert_int_equal(one.reads.count, 1);
        for (uint32_t k = 0; k < reach->count; k++) {
            size_t used = strlen(text);
            if (reach->keys[k] == one.reads.keys[0])
                (void)snprintf(text + used, 256 - used, "%s%s", used == 0 ? "" : " ", names[i]);
        }
    }
}

#define P (TRAITS_NEEDS_PRIMARY)
#define W (TRAITS_NEEDS_PRIMARY | TRAITS_MAY_WRITE)

static const struct row {
    const char *text;
    uint32_t flags; /* of P and W */
    const char *why;
    const char *reads, *writes;
} statements[] = {
    {"SELECT 1", 0, "", "", ""},
    {"SELECT * FROM customers", 0, "", "public.customers", ""},
    {"SELECT * FROM public.orders", 0, "", "public.orders", ""},
    {"SELECT * FROM orders", 0, "", "public.orders archive.orders", ""},
    {"SELECT * FROM archive.orders o, customers", 0, "", "public.customers archive.orders", ""},
    {"SELECT * FROM pg_class", 0, "", "", ""},
    {"SELECT * FROM pg_catalog.pg_class", 0, "", "", ""},
    {"SELECT * FROM nowhere", P, "relation nowhere is not in the catalog", "*", ""},
    {"SELECT * FROM archive.customers", P, "relation archive.customers is not in the catalog", "*",
     ""},
    {"WITH nowhere AS (SELECT * FROM items) SELECT * FROM nowhere", 0, "", "public.items", ""},
    {"SELECT * FROM sessions", P, "reads public.sessions, an unlogged table", "public.sessions",
     ""},
    {"SELECT * FROM far", P, "reads public.far, a foreign table", NULL, ""},
    {"SELECT * FROM near", 0, "", NULL, ""},
    {"SELECT * FROM numbers", P, "reads public.numbers, a sequence", "", ""},
    {"SELECT * FROM open_orders", 0, "", "public.orders public.items", ""},
    {"SELECT * FROM bumping", W, "reads public.bumping, through public.bump(), volatile", NULL,
     "*"},
    {"SELECT * FROM of_views", W, "reads public.of_views, through public.bump(), volatile", NULL,
     "*"},
    {"SELECT * FROM kept", 0, "", "public.kept", ""},
    {"SELECT * FROM waiting", P, "reads public.waiting, reads what shows one node only", "", ""},
    {"SELECT * FROM guarded", P,
     "reads public.guarded, through pg_advisory_lock(), which is not for replicas",
     "public.guarded", ""},
    {"SELECT * FROM events", 0, "", "public.events", ""},
    {"SELECT * FROM events_1", 0, "", "public.events", ""},
    {"SELECT * FROM mixed", 0, "", "public.mixed", ""},
    /* functions */
    {"SELECT bump()", W, "calls public.bump(), volatile", "*", "*"},
    {"SELECT public.total()", 0, "", "*", ""},
    {"SELECT total()", W, "calls other.total(), volatile", "*", "*"},
    {"SELECT distance(a) FROM items", 0, "", "public.items", ""},
    {"SELECT closed()", 0, "", "public.items", ""},
    {"SELECT sneaky()", W, "calls public.sneaky(), through public.bump(), volatile", "*", "*"},
    {"SELECT perlish()", 0, "", "*", ""},
    {"SELECT gen_random_bytes(1)", 0, "", "", ""},
    {"SELECT allowed()", 0, "", "*", ""},
    {"SELECT missing()", W, "function missing() is not known to be harmless", "*", "*"},
    {"SELECT upper('a')", 0, "", "", ""},
    {"SELECT lower('a')", W, "calls public.lower(), volatile", "*", "*"},
    {"SELECT pg_catalog.lower('a')", 0, "", "", ""},
    {"SELECT c.full_name FROM customers c", 0, "", "*", ""},
    {"SELECT c.touched FROM customers c", W, "calls public.touched(), volatile", "*", "*"},
    {"SELECT touched FROM customers", 0, "", "public.customers", ""},
    {"SELECT pg_relation_size('items')", 0, "", "*", ""},
    {"SELECT 1 ## 2", W, "calls public.##, through public.bump(), volatile", "*", "*"},
    {"SELECT '1'::checked", W, "calls public.checked, through public.bump(), volatile", "*", "*"},
    {"SELECT last_value FROM customers", 0, "", "public.customers", ""},
    {"BEGIN READ ONLY", 0, "BEGIN", "", ""},
    /* writes */
    {"INSERT INTO items VALUES (1)", W, "INSERT", "public.items", "public.items"},
    {"INSERT INTO items SELECT * FROM orders", W, "INSERT",
     "public.orders archive.orders public.items", "public.items"},
    {"INSERT INTO customers VALUES (1)", W, "INSERT", "public.customers", "public.customers"},
    {"DELETE FROM customers", W, "DELETE", "public.customers",
     "public.customers public.orders public.items"},
    {"INSERT INTO customers VALUES (1) ON CONFLICT (id) DO UPDATE SET a = 1", W, "INSERT",
     "public.customers", "public.customers public.orders public.items"},
    {"UPDATE events_1 SET a = 1", W, "UPDATE", "public.events", "public.events"},
    {"UPDATE audited SET a = 1", W, "UPDATE", "public.audited", "*"},
    {"UPDATE stamped SET a = 1", W, "UPDATE", "public.stamped", "public.stamped"},
    {"INSERT INTO ruled VALUES (1)", W, "INSERT", "public.ruled", "*"},
    {"INSERT INTO far VALUES (1)", W, "INSERT", NULL, "*"},
    {"INSERT INTO nowhere VALUES (1)", W, "INSERT", "*", "*"},
    {"DELETE FROM open_orders", W, "DELETE", "public.orders public.items",
     "public.orders public.items"},
    {"UPDATE items SET a = bump()", W, "UPDATE", "*", "*"},
    {"WITH d AS (DELETE FROM items RETURNING a) SELECT * FROM d", W, "DELETE", "public.items",
     "public.items"},
    {"SELECT * FROM items FOR UPDATE", W, "SELECT ... FOR UPDATE", "public.items", ""},
    {"SELECT nextval('numbers')", W, "function nextval() writes", "", ""},
    {"TRUNCATE items", W, "TRUNCATE", "public.items", "*"},
    {"CREATE TABLE t (a int)", W, "CREATE TABLE", "*", "*"},
    {"CALL p()", W, "CALL", "*", "*"},
    {"REFRESH MATERIALIZED VIEW kept", W, "REFRESH MATERIALIZED VIEW", "public.kept",
     "public.kept"},
    {"SELECT * FROM (", W, NULL, "*", "*"},
};

static void test_statements(void **state) {
    (void)state;
    struct facts *facts = make();
    struct traits_cache *cache = traits_cache_new(1000, 200, NULL);
    context.facts = facts;
    for (size_t i = 0; i < COUNT(statements); i++) {
        const struct row *row = &statements[i];
        const struct traits *traits = look(cache, row->text);
        char reads[256], writes[256];
        reach_text(facts, &traits->reads, reads);
        reach_text(facts, &traits->writes, writes);
        bool is_right = (traits->flags & W) == row->flags &&
                        (row->why == NULL || strcmp(traits->why, row->why) == 0) &&
                        (row->reads == NULL || strcmp(reads, row->reads) == 0) &&
                        (!(traits->flags & TRAITS_MAY_WRITE) || strcmp(writes, row->writes) == 0);
        if (!is_right)
            fail_msg("%s\n flags %x, why '%s'\n reads '%s'\n writes '%s'", row->text, traits->flags,
                     traits->why, reads, writes);
    }
    traits_cache_free(&cache);
    facts_free(&facts);
}

/* Before the catalog has been read only what is PostgreSQL's own may go elsewhere. */
static void test_unread(void **state) {
    (void)state;
    struct traits_cache *cache = traits_cache_new(1000, 200, NULL);
    context.facts = facts_unread();
    assert_int_equal(look(cache, "SELECT now()")->flags & W, 0);
    assert_int_equal(look(cache, "SELECT * FROM customers")->flags & W, P);
    assert_string_equal(look(cache, "SELECT * FROM customers")->why,
                        "relation customers, and the catalog is still to be read");
    assert_int_equal(look(cache, "SELECT distance(1)")->flags & W, W);
    assert_true(look(cache, "INSERT INTO customers VALUES (1)")->writes.is_all);
    traits_cache_free(&cache);
}

/* What is in the cache follows the facts, and so does what a replica had refused. */
static void test_generations(void **state) {
    (void)state;
    struct traits_cache *cache = traits_cache_new(1000, 200, NULL);
    struct facts *facts = make();
    static const char text[] = "SELECT * FROM customers";
    context.facts = NULL;
    assert_int_equal(look(cache, text)->flags & W, 0);
    assert_true(look(cache, text)->reads.is_all);
    context.facts = facts_unread();
    assert_int_equal(look(cache, text)->flags & W, P);
    context.facts = facts;
    assert_int_equal(look(cache, text)->flags & W, 0);
    assert_int_equal(look(cache, text)->generation, facts_generation(facts));
    traits_correct(cache, bytes_of_text(text), &context);
    assert_int_equal(look(cache, text)->flags & W, W);
    struct facts *newer = make();
    assert_int_not_equal(facts_generation(facts), facts_generation(newer));
    context.facts = newer;
    assert_int_equal(look(cache, text)->flags & W, 0);
    assert_int_equal(traits_cache_stats(cache).misses, 1);
    traits_cache_free(&cache);
    facts_free(&newer);
    facts_free(&facts);
}

/* More relations than a reach has keys for are everything. */
static void test_many_relations(void **state) {
    (void)state;
    struct facts_builder *builder = facts_builder_new(DATABASE, NULL);
    struct buf text = {0};
    char names[40][16];
    buf_append_text(&text, "rv");
    buf_append_u8(&text, 0);
    facts_builder_add(builder, &(struct facts_row){'r', 30000, 0, "vp", "public", "v"});
    for (unsigned i = 1; i < 40; i++) {
        (void)snprintf(names[i], sizeof names[i], "t%u", i);
        facts_builder_add(builder,
                          &(struct facts_row){'r', 30000 + i, 0, "rp", "public", names[i]});
        facts_builder_add(builder, &(struct facts_row){'v', 30000, 30000 + i, "r", "", ""});
    }
    struct facts *facts = facts_builder_end(&builder, 9, 1);
    struct findings found = {0};
    struct traits traits;
    facts_resolve(facts, &found, buf_content(&text), &traits);
    assert_true(traits.reads.is_all);
    facts_free(&facts);
    buf_release(&text);
}

static void count_line(void *owner, const struct facts_line *line) {
    unsigned *count = owner;
    (*count)++;
    assert_string_not_equal(line->name, "customers");
    assert_string_not_equal(line->name, "stamped");
}

static void test_lines(void **state) {
    (void)state;
    struct facts *facts = make();
    unsigned count = 0;
    facts_each(facts, count_line, &count);
    assert_in_range(count, 15, COUNT(rows));
    facts_free(&facts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_statements),  cmocka_unit_test(test_unread),
        cmocka_unit_test(test_generations), cmocka_unit_test(test_many_relations),
        cmocka_unit_test(test_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
