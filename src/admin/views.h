/*
 * The views: what SHOW can show. A row of the table names the columns and says where the rows come
 * from; each view's rows are written by one function.
 */
#ifndef WEIR_ADMIN_VIEWS_H
#define WEIR_ADMIN_VIEWS_H

#include "admin_state.h"
#include "gather.h"

/* Where rows come from. */
enum view_source {
    VIEW_OWN,    /* worker 0 knows */
    VIEW_CENSUS, /* from the census of all workers, added up */
    VIEW_WORKERS /* each worker writes its own; one after the other they are the answer */
};

struct view_context {
    struct admin *admin;
    const struct census *census; /* of VIEW_CENSUS */
    struct rows *rows;
};

struct view {
    const char *name;
    const struct column *columns;
    unsigned columns_count;
    enum view_source source;
    void (*write)(const struct view_context *context); /* VIEW_OWN, VIEW_CENSUS; worker 0 */
    void (*write_part)(struct gather_part *part);      /* VIEW_WORKERS; on the worker */
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

/* How many rows SHOW DATABASES has. */
size_t view_databases_count(struct admin *admin);

/* In view_stats.c */
void view_stats(const struct view_context *context);
void view_stats_totals(const struct view_context *context);
void view_stats_averages(const struct view_context *context);
void view_totals(const struct view_context *context);

/* In view_connections.c */
void view_clients(struct gather_part *part);
void view_servers(struct gather_part *part);

/* In view_route.c: where SQL would run in one database (NULL: in each that is listed). The columns
 * are those of a view, and the rows go into `rows`, whose columns are set here. False if there is
 * no such database. */
bool view_route(struct admin *admin, const char *database, struct bytes sql, struct rows *rows);
extern const struct column view_route_columns[4];

/* What a pool_mode is called. */
const char *pool_mode_text(enum pool_mode mode);

#endif
