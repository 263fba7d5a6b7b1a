/*
 * Intrusive doubly linked lists that know their length.
 *
 * A `struct link` is a member of the thing that is listed; LIST_OWNER gives the thing back. A
 * link is in at most one list; an unlinked one has next == NULL. Zeroed memory is an unlinked
 * link, but a list head must be initialised with list_init.
 */
#ifndef WEIR_CORE_LIST_H
#define WEIR_CORE_LIST_H

#include "core/check.h"

#include <stdbool.h>
#include <stddef.h>

struct link {
    struct link *next;
    struct link *prev;
};

struct list {
    struct link head;
    size_t count;
};

/* The struct of type `type` whose member `member` is the link `l`. */
#define LIST_OWNER(l, type, member) ((type *)(void *)((char *)(l)-offsetof(type, member)))

/* Walks a list; the body must not remove anything but, with LIST_EACH_SAFE, the link itself. */
#define LIST_EACH(list, l) for (struct link *l = (list)->head.next; l != &(list)->head; l = l->next)
#define LIST_EACH_SAFE(list, l, following)                                                         \
    for (struct link *l = (list)->head.next, *following = l->next; l != &(list)->head;             \
         l = following, following = l->next)

static inline void list_init(struct list *list) {
    list->head.next = list->head.prev = &list->head;
    list->count = 0;
}

static inline bool link_is_listed(const struct link *l) {
    return l->next != NULL;
}

static inline void list_insert_before(struct list *list, struct link *place, struct link *l) {
    CHECK(!link_is_listed(l));
    l->next = place;
    l->prev = place->prev;
    place->prev->next = l;
    place->prev = l;
    list->count++;
}

static inline void list_append(struct list *list, struct link *l) {
    list_insert_before(list, &list->head, l);
}

static inline void list_prepend(struct list *list, struct link *l) {
    list_insert_before(list, list->head.next, l);
}

static inline void list_remove(struct list *list, struct link *l) {
    CHECK(link_is_listed(l) && list->count > 0);
    l->prev->next = l->next;
    l->next->prev = l->prev;
    l->next = l->prev = NULL;
    list->count--;
}

/* The first or last link, or NULL in an empty list. */
static inline struct link *list_first(const struct list *list) {
    return list->count == 0 ? NULL : list->head.next;
}

static inline struct link *list_last(const struct list *list) {
    return list->count == 0 ? NULL : list->head.prev;
}

/* Takes the first link out; NULL if the list is empty. */
static inline struct link *list_pop(struct list *list) {
    struct link *l = list_first(list);
    if (l != NULL) list_remove(list, l);
    return l;
}

#endif
