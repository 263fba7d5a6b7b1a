/*
 * The views: what SHOW can show. A row of the table names the columns and says where the rows come
 * from; each view's rows are written by one function.
 */
#ifndef WEIR_ADMIN_VIEWS_H
#define WEIR_ADMIN_VIEWS_H

#include "admin_state.h"
#include "gather.h"
#include "rows.h"

/* Where rows come from. */
enum view_source {
    VIEW_OWN,    /* worker 0 knows */
    VIEW_CENSUS, /* from the census of all workers, added up */
    VIEW_WALK    /* each worker writes the rows of its own connections; see walk.h */
};

struct view_context {
    struct admin *admin;
    const struct census *census; /* of VIEW_CENSUS */
    struct rows *rows;
};

/* Where the row of a connection goes, and what all of a worker's rows have in common. */
struct walk_place {
    struct rows *rows;
    const struct admin_worker *worker;
    unsigned index;
    int name_index; /* of application_name among the tracked parameters */
};

typedef void view_client_fn(const struct walk_place *place, const struct client *client);
typedef void view_cancel_fn(void *place, const struct cancel_view *view); /* a walk_place */
typedef void view_server_fn(const struct walk_place *place, const struct server *server);

struct view {
    const char *name;
    const struct column *columns;
    unsigned columns_count;
    enum view_source source;
    void (*write)(const struct view_context *context); /* VIEW_OWN, VIEW_CENSUS; worker 0 */
    view_client_fn *write_client; /* VIEW_WALK; on the worker, one row or none; may be NULL */
    view_server_fn *write_server;
    view_cancel_fn *write_cancel; /* all of a worker at once: few at any time */
    bool is_admin_only;
    /* VIEW_CENSUS: what else is counted on the worker; NULL: nothing. */
    void (*take)(struct census *census, const struct admin_worker *worker);
};

/* The view of that name in any case, or NULL. */
const struct view *view_find(const char *name);

/* All views, for HELP. */
const struct view *view_at(size_t index);
size_t view_count(void);

/* In view_pools.c */
void view_pools(const struct view_context *context);
void view_node_pools(const struct view_context *context);
void view_databases(const struct view_context *context);
void view_users(const struct view_context *context);
void view_nodes(const struct view_context *context);

/* How many rows SHOW DATABASES and SHOW USERS have. */
size_t view_databases_count(struct admin *admin);
size_t view_users_count(const struct view_context *context);

/* In view_facts.c */
void view_facts(const struct view_context *context);

/* In view_peers.c */
void view_peers(const struct view_context *context);
void view_peer_pools(const struct view_context *context);

/* In view_stats.c */
void view_stats(const struct view_context *context);
void view_stats_totals(const struct view_context *context);
void view_retries(const struct view_context *context);
void view_stats_averages(const struct view_context *context);
void view_totals(const struct view_context *context);

/* In view_connections.c */
view_client_fn view_client, view_client_socket, view_client_socket_active, view_client_fd, view_pin;
view_cancel_fn view_cancel;
view_server_fn view_server, view_server_socket, view_server_socket_active, view_server_fd;

/* In view_counts.c */
void view_lists(const struct view_context *context);
void view_memory(const struct view_context *context);
void view_dns_hosts(const struct view_context *context);
void view_dns_zones(const struct view_context *context);

/* In view_shadow.c */
void view_shadow(const struct view_context *context);

/* In view_route.c: where SQL would run in one database (NULL: in each that is listed). The rows
 * go into `rows`, which is set up here. False if there is no such database. */
bool view_route(struct admin *admin, const char *database, struct bytes sql, struct rows *rows);

/* What a pool_mode is called. */
const char *pool_mode_text(enum pool_mode mode);

#endif
