/* Questions to all workers; see gather.h. One message is one part, which travels both ways. */
#include "gather.h"

#include "admin_state.h"
#include "core/memory.h"

struct gather *gather_new(struct admin *admin, const struct gather_plan *plan, void *owner) {
    struct gather *gather =
        memory_new(sizeof *gather + admin->workers_count * sizeof gather->parts[0]);
    gather->admin = admin;
    gather->plan = plan;
    gather->owner = owner;
    gather->count = gather->left = admin->workers_count;
    for (unsigned i = 0; i < gather->count; i++) {
        gather->parts[i].gather = gather;
        gather->parts[i].worker = &admin->workers[i];
        gather->parts[i].index = i;
    }
    list_append(&admin->gathers, &gather->link);
    return gather;
}

static void gather_free(struct gather *gather) {
    list_remove(&gather->admin->gathers, &gather->link);
    for (unsigned i = 0; i < gather->count; i++) {
        census_release(&gather->parts[i].census);
    }
    memory_free(gather);
}

static void on_back(struct loop_mail *mail, void *context) {
    (void)context;
    struct gather *gather = LIST_OWNER(mail, struct gather_part, mail)->gather;
    CHECK(gather->left > 0);
    if (--gather->left > 0) return;
    gather->plan->done(gather);
    gather_free(gather);
}

static void on_worker(struct loop_mail *mail, void *context) {
    (void)context;
    struct gather_part *part = LIST_OWNER(mail, struct gather_part, mail);
    part->gather->plan->run(part);
    mail->run = on_back;
    loop_post(part->gather->admin->workers[0].loop, mail);
}

void gather_send(struct gather *gather) {
    for (unsigned i = 0; i < gather->count; i++) {
        gather->parts[i].mail.run = on_worker;
        loop_post(gather->parts[i].worker->loop, &gather->parts[i].mail);
    }
}

void gather_census(struct gather_part *part) {
    census_take(&part->census, part->worker);
}

struct census *gather_merge(struct gather *gather) {
    struct census *census = &gather->parts[0].census;
    for (unsigned i = 1; i < gather->count; i++) census_merge(census, &gather->parts[i].census);
    census_finish(census, &gather->admin->console_stats);
    return census;
}

void gather_free_all(struct admin *admin) {
    for (struct link *l = list_first(&admin->gathers); l != NULL; l = list_first(&admin->gathers))
        gather_free(LIST_OWNER(l, struct gather, link));
}
