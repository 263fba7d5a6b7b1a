/*
 * Walks; see walk.h. One message goes to a worker, makes some rows there, comes back to worker 0,
 * which sends them, and goes out again; when a worker has no more, it goes to the next one.
 *
 *      worker 0: begin, send -> worker n: note all keys once, make a slice -> worker 0 ...
 *
 * What a worker has is noted at the first slice, by the connections' own keys. A connection that
 * has gone by the time its turn comes has no row; one that came later has none either.
 */
#include "walk.h"

#include "core/log.h"
#include "core/memory.h"

/* About a fifth of a millisecond; few enough that those who wait behind it do not notice. */
#define SLICE_ROWS 64u

struct walk {
    struct loop_mail mail;
    struct link link; /* in the admin's walks */
    struct admin *admin;
    struct console *console;
    const struct view *view;
    struct rows rows;
    unsigned worker;
    bool is_noted;      /* what the worker has stands in `clients` and `servers` */
    bool is_waiting;    /* until the console has read */
    struct buf clients; /* cancel keys, 8 bytes each */
    struct buf servers; /* numbers, 4 bytes each */
};

static void walk_free(struct walk *walk) {
    list_remove(&walk->admin->walks, &walk->link);
    buf_release(&walk->rows.out);
    buf_release(&walk->clients);
    buf_release(&walk->servers);
    memory_free(walk);
}

void walk_free_all(struct admin *admin) {
    for (struct link *l = list_first(&admin->walks); l != NULL; l = list_first(&admin->walks))
        walk_free(LIST_OWNER(l, struct walk, link));
}

/* ---- on the worker's thread */

static void note_clients(struct walk *walk, const struct client_set *set) {
    for (unsigned state = 0; state < CLIENT_CLOSED; state++) {
        LIST_EACH (&set->clients[state], l) {
            const struct client *client = LIST_OWNER(l, struct client, link);
            buf_append(&walk->clients, client->key, sizeof client->key);
        }
    }
}

static void note_all(struct walk *walk, const struct admin_worker *worker) {
    walk->is_noted = true;
    if (walk->view->write_client != NULL) note_clients(walk, worker->clients);
    if (walk->view->write_server == NULL) return;
    const struct map *map = &worker->pools->by_id;
    struct map_node *node = map_next(map, NULL);
    for (; node != NULL; node = map_next(map, node)) buf_append_bytes(&walk->servers, node->key);
}

/* Takes the next key, of that size; false if there is none. */
static bool take_key(struct buf *keys, size_t size, char *key) {
    if (buf_length(keys) == 0) return false;
    memcpy(key, buf_content(keys).at, size);
    buf_consume(keys, size);
    return true;
}

static void make_slice(struct walk *walk, const struct walk_place *place) {
    const struct admin_worker *worker = place->worker;
    char key[sizeof((struct client *)NULL)->key];
    for (unsigned left = SLICE_ROWS; left > 0; left--) {
        struct map_node *node;
        if (take_key(&walk->clients, sizeof key, key)) {
            node = map_find(&worker->clients->keys, bytes_of(key, sizeof key));
            if (node == NULL) continue;
            walk->view->write_client(place, MAP_OWNER(node, struct client, by_key));
        } else if (take_key(&walk->servers, sizeof(uint32_t), key)) {
            node = map_find(&worker->pools->by_id, bytes_of(key, sizeof(uint32_t)));
            if (node == NULL) continue;
            walk->view->write_server(place, MAP_OWNER(node, struct server, by_id));
        } else {
            return;
        }
    }
}

static void on_back(struct loop_mail *mail, void *context);

static void on_worker(struct loop_mail *mail, void *context) {
    (void)context;
    struct walk *walk = LIST_OWNER(mail, struct walk, mail);
    const struct admin_worker *worker = &walk->admin->workers[walk->worker];
    struct walk_place place = {&walk->rows, worker, walk->worker,
                               parameters_index(worker->pools, bytes_of_text("application_name"))};
    if (!walk->is_noted) {
        note_all(walk, worker);
        if (walk->view->write_cancel != NULL)
            cancel_each(worker->pools, walk->view->write_cancel, &place);
    }
    make_slice(walk, &place);
    mail->run = on_back;
    loop_post(walk->admin->workers[0].loop, mail);
}

/* ---- on worker 0 */

static void go_on(struct walk *walk) {
    walk->is_waiting = false;
    walk->mail.run = on_worker;
    loop_post(walk->admin->workers[walk->worker].loop, &walk->mail);
}

static void finish(struct walk *walk) {
    struct console *console = walk->console;
    walk_free(walk);
    console_complete(console, "SHOW");
}

static void on_back(struct loop_mail *mail, void *context) {
    (void)context;
    struct walk *walk = LIST_OWNER(mail, struct walk, mail);
    struct console *console = walk->console;
    console_send(console, &walk->rows.out);
    if (console->client == NULL) {
        finish(walk);
        return;
    }
    if (buf_length(&walk->clients) + buf_length(&walk->servers) == 0) {
        walk->is_noted = false;
        walk->worker++;
    }
    if (walk->worker == walk->admin->workers_count) {
        finish(walk);
    } else if (stream_queued(&console->client->stream) > STREAM_HIGH_BYTES) {
        walk->is_waiting = true;
    } else {
        go_on(walk);
    }
}

void walk_start(struct console *console, const struct view *view) {
    struct walk *walk = memory_new(sizeof *walk);
    walk->admin = console->admin;
    walk->console = console;
    walk->view = view;
    rows_init(&walk->rows, view->columns, view->columns_count, console_groups(console));
    rows_describe(&console->out, &walk->rows);
    list_append(&walk->admin->walks, &walk->link);
    go_on(walk);
}

void walk_tick(struct admin *admin) {
    LIST_EACH_SAFE (&admin->walks, l, following) {
        struct walk *walk = LIST_OWNER(l, struct walk, link);
        if (!walk->is_waiting) continue;
        const struct client *client = walk->console->client;
        if (client == NULL) {
            finish(walk);
        } else if (stream_queued(&client->stream) <= STREAM_LOW_BYTES) {
            go_on(walk);
        }
    }
}
