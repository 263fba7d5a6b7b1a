/* Intrusive lists: scripts of operations with the order they leave, and what must not be done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/list.h"
#include "unit/dies.h"

#include <stdio.h>
#include <string.h>

struct item {
    int padding; /* so that the link is not at the start */
    struct link link;
    char name;
};

struct world {
    struct list list;
    struct item items['z' + 1];
};

static void world_init(struct world *world) {
    *world = (struct world){0};
    list_init(&world->list);
    for (int c = 'a'; c <= 'z'; c++) world->items[c].name = (char)c;
}

/* Two characters for each step: +x append, ^x prepend, -x remove, =y pop, which must give y, and
 * <x insert x before the first. */
static void run(struct world *world, const char *script) {
    for (const char *step = script; *step != '\0'; step += 2) {
        struct item *item = &world->items[(unsigned char)step[1]];
        switch (step[0]) {
        case '+':
            list_append(&world->list, &item->link);
            break;
        case '^':
            list_prepend(&world->list, &item->link);
            break;
        case '<':
            list_insert_before(&world->list, list_first(&world->list), &item->link);
            break;
        case '-':
            list_remove(&world->list, &item->link);
            break;
        default:
            assert_ptr_equal(list_pop(&world->list), step[1] == '0' ? NULL : &item->link);
            break;
        }
    }
}

static const struct {
    const char *script;
    const char *order;
} rows[] = {
    {"", ""},           {"+a", "a"},        {"+a+b+c", "abc"},  {"^a^b^c", "cba"},
    {"+a^b+c", "bac"},  {"+a+b<c", "cab"},  {"+a+b+c-b", "ac"}, {"+a+b+c-a", "bc"},
    {"+a+b+c-c", "ab"}, {"+a-a", ""},       {"+a-a+a", "a"},    {"+a+b-a+a", "ba"},
    {"+a+b+c=a", "bc"}, {"+a+b=a=b=0", ""}, {"=0+a", "a"},
};

static void assert_order(const struct list *list, const char *order, size_t row) {
    char forward[32] = "", backward[32] = "";
    size_t n = 0;
    LIST_EACH (list, l) {
        forward[n++] = LIST_OWNER(l, struct item, link)->name;
    }
    size_t end = n;
    for (const struct link *l = list->head.prev; l != &list->head; l = l->prev)
        backward[--n] = LIST_OWNER(l, const struct item, link)->name;
    if (strcmp(forward, order) != 0 || strcmp(backward, order) != 0 || list->count != end)
        fail_msg("row %zu: \"%s\", backward \"%s\", count %zu", row, forward, backward,
                 list->count);
}

static void scripts_leave_their_order(void **unused) {
    (void)unused;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct world world;
        world_init(&world);
        run(&world, rows[i].script);
        assert_order(&world.list, rows[i].order, i);
        size_t len = strlen(rows[i].order);
        struct link *first = len == 0 ? NULL : &world.items[(int)rows[i].order[0]].link;
        struct link *last = len == 0 ? NULL : &world.items[(int)rows[i].order[len - 1]].link;
        assert_ptr_equal(list_first(&world.list), first);
        assert_ptr_equal(list_last(&world.list), last);
        for (int c = 'a'; c <= 'z'; c++)
            assert_int_equal(link_is_listed(&world.items[c].link),
                             strchr(rows[i].order, c) != NULL);
    }
}

/* The body of LIST_EACH_SAFE may take out, and move, what it is at. */
static void a_walk_may_remove(void **unused) {
    (void)unused;
    struct world world;
    struct list other;
    world_init(&world);
    list_init(&other);
    run(&world, "+a+b+c+d");
    LIST_EACH_SAFE (&world.list, l, following) {
        if (LIST_OWNER(l, struct item, link)->name % 2 == 0) continue;
        list_remove(&world.list, l);
        list_append(&other, l);
    }
    assert_order(&world.list, "bd", 0);
    assert_order(&other, "ac", 0);
}

static struct world misused;

static void add_twice(void) {
    list_append(&misused.list, &misused.items['a'].link);
}

static void remove_unlisted(void) {
    list_remove(&misused.list, &misused.items['b'].link);
}

static void remove_from_an_empty_one(void) {
    struct list empty;
    list_init(&empty);
    list_remove(&empty, &misused.items['a'].link);
}

static void misuse_ends_the_process(void **unused) {
    (void)unused;
    world_init(&misused);
    run(&misused, "+a");
    assert_true(dies(add_twice));
    assert_true(dies(remove_unlisted));
    assert_true(dies(remove_from_an_empty_one));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scripts_leave_their_order),
        cmocka_unit_test(a_walk_may_remove),
        cmocka_unit_test(misuse_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
