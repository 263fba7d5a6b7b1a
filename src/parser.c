/*
 * The parser thread: statements that are too long to be parsed on a worker's own thread are
 * parsed here, one at a time, on a stack that is large enough for the grammar's recursion. Jobs
 * wait in a bounded queue; a result goes back to its worker as a message.
 *
 * The thread starts with the first job: as long as a process has one thread only, the kernel takes
 * no reference on a descriptor for each system call, which is one or two percent of everything.
 */
#include "core/list.h"
#include "core/memory.h"
#include "process.h"

#define PARSER_QUEUE_MAX 64u

struct parse_mail {
    struct loop_mail mail;
    struct link link;
    struct worker *worker;
    struct traits_job *job;
};

struct parser {
    uv_thread_t thread;
    uv_mutex_t lock;
    uv_cond_t news;
    struct list queue;
    bool is_ending;
    bool is_started;
};

static void run_finished(struct loop_mail *mail, void *context) {
    struct parse_mail *parse = (struct parse_mail *)(void *)mail;
    struct worker *worker = context;
    traits_job_finish(worker->clients.traits, &parse->job);
    memory_free(parse);
}

static void thread_main(void *argument) {
    struct parser *parser = argument;
    uv_mutex_lock(&parser->lock);
    for (;;) {
        while (parser->queue.count == 0 && !parser->is_ending)
            uv_cond_wait(&parser->news, &parser->lock);
        if (parser->is_ending) break;
        struct parse_mail *parse = LIST_OWNER(list_pop(&parser->queue), struct parse_mail, link);
        uv_mutex_unlock(&parser->lock);
        traits_job_run(parse->job);
        parse->mail.run = run_finished;
        loop_post(parse->worker->loop, &parse->mail);
        uv_mutex_lock(&parser->lock);
    }
    uv_mutex_unlock(&parser->lock);
}

struct parser *parser_new(void) {
    struct parser *parser = memory_new(sizeof *parser);
    list_init(&parser->queue);
    CHECK(uv_mutex_init(&parser->lock) == 0);
    CHECK(uv_cond_init(&parser->news) == 0);
    return parser;
}

static void start_thread(struct parser *parser) {
    uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE,
                                   .stack_size = TRAITS_JOB_STACK_BYTES};
    CHECK(uv_thread_create_ex(&parser->thread, &options, thread_main, parser) == 0);
    parser->is_started = true;
}

void parser_free(struct parser **parser_at) {
    struct parser *parser = *parser_at;
    if (parser == NULL) return;
    *parser_at = NULL;
    uv_mutex_lock(&parser->lock);
    parser->is_ending = true;
    uv_cond_signal(&parser->news);
    uv_mutex_unlock(&parser->lock);
    if (parser->is_started) CHECK(uv_thread_join(&parser->thread) == 0);
    struct link *l;
    while ((l = list_pop(&parser->queue)) != NULL) {
        struct parse_mail *parse = LIST_OWNER(l, struct parse_mail, link);
        traits_job_free(&parse->job);
        memory_free(parse);
    }
    uv_cond_destroy(&parser->news);
    uv_mutex_destroy(&parser->lock);
    memory_free(parser);
}

bool parser_post(struct parser *parser, struct worker *worker, struct traits_job *job) {
    struct parse_mail *parse = memory_new(sizeof *parse);
    parse->worker = worker;
    parse->job = job;
    uv_mutex_lock(&parser->lock);
    if (!parser->is_started) start_thread(parser);
    bool has_room = parser->queue.count < PARSER_QUEUE_MAX;
    if (has_room) list_append(&parser->queue, &parse->link);
    uv_cond_signal(&parser->news);
    uv_mutex_unlock(&parser->lock);
    if (!has_room) memory_free(parse);
    return has_room;
}
