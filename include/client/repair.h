/*
 * Statements that have gone stale on a server: the pooler has answered a client's Parse itself, for
 * the server had the statement already, and its tables have changed since in a way that went past
 * the pooler. A Parse of the client's own would not have met that, so its first use is repaired:
 * prepared anew and sent again, unseen outside of transactions. For the files of client/.
 */
#ifndef WEIR_CLIENT_REPAIR_H
#define WEIR_CLIENT_REPAIR_H

#include "client/client.h"

/* A group of requests begins that is no Query, with a client->session: one that may have to be
 * repaired is kept, and its first answers held back. */
void repair_begin(struct client *client, struct bytes bytes);

/* An error has come for the request of that entry: true if its group is to be sent again. What was
 * stale is prepared anew when it is used next, at once or by the client's own next try. */
bool repair_is_due(struct client *client, const struct pipeline_entry *entry,
                   const struct fault_fields *fields);

/* A Bind that asks for other result formats than there are columns now: its statement has changed
 * since the client described it. PostgreSQL, which would still have had the old one, calls that a
 * cached plan whose result type has changed, and drivers then prepare anew. Appends that error to
 * `out`; false if it is another one. */
bool repair_disguise(const struct client *client, const struct pipeline_entry *entry,
                     const struct fault_fields *fields, struct buf *out);

#endif
