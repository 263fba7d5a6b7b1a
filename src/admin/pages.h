/* What stands behind each path of the HTTP server; worker 0 only. Each function appends a body and
 * returns the status. */
#ifndef WEIR_ADMIN_PAGES_H
#define WEIR_ADMIN_PAGES_H

#include "admin_state.h"
#include "census.h"

/* In metrics.c: /metrics. */
unsigned page_metrics(struct admin *admin, const struct census *census, struct buf *out);

/* In health.c: /health, and /ready, which needs no census. */
unsigned page_health(struct admin *admin, const struct census *census, struct buf *out);
unsigned page_ready(struct admin *admin, const struct census *census, struct buf *out);

/* In page.c: / and what it asks for, /api/pools. */
unsigned page_home(struct admin *admin, const struct census *census, struct buf *out);
unsigned page_pools(struct admin *admin, const struct census *census, struct buf *out);

/* In health.c, for the other pages. */
enum health_status { HEALTH_HEALTHY, HEALTH_DEGRADED, HEALTH_UNHEALTHY };
struct json;
const char *health_status_text(enum health_status status);
/* Judges, and writes the members "status", "timestamp", "version", "reasons" and "nodes". */
enum health_status health_write(struct json *json, struct admin *admin,
                                const struct census *census);

#endif
