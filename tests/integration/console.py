"""What the console's views look like, and what tests of the console share.

VIEWS has the columns of each view in order, with their types. What stands here of PgBouncer is
part of its contract: exporters read by name, scripts by position.
"""

import time

import pooler as poolers

TYPES = {17: "bytea", 20: "int8", 23: "int4", 25: "text", 1700: "numeric"}

COUNTS = "server_assignment_count xact_count query_count"
PARSES = "client_parse_count server_parse_count bind_count client_login_count"


def numeric(prefix, names):
    return [(prefix + name, "numeric") for name in names.split()]


def columns(text):
    """`name:type` for each column; without a type as the one before it."""
    found, kind = [], "text"
    for one in text.split():
        name, _, given = one.partition(":")
        kind = given or kind
        found.append((name, kind))
    return found


CONNECTIONS = columns(
    "type:text user database replication state addr port:int4 local_addr:text local_port:int4 "
    "connect_time:text request_time wait:int4 wait_us close_needed ptr:text link remote_pid:int4 "
    "tls:text application_name prepared_statements:int4 id"
)

BUFFERS = "recv_pos:int4 pkt_pos pkt_remain send_pos send_remain pkt_avail send_avail"

VIEWS = {
    "CLIENTS": CONNECTIONS,
    "SERVERS": CONNECTIONS,
    "SOCKETS": CONNECTIONS + columns(BUFFERS),
    "ACTIVE_SOCKETS": CONNECTIONS + columns(BUFFERS),
    "POOLS": columns(
        "database:text user cl_active:int4 cl_waiting cl_active_cancel_req cl_waiting_cancel_req "
        "sv_active sv_active_cancel sv_being_canceled sv_idle sv_used sv_tested sv_login maxwait "
        "maxwait_us pool_mode:text load_balance_hosts"
    ),
    "DATABASES": columns(
        "name:text host port:int4 database:text force_user pool_size:int4 min_pool_size "
        "reserve_pool_size server_lifetime pool_mode:text load_balance_hosts max_connections:int4 "
        "current_connections max_client_connections current_client_connections paused disabled"
    ),
    "USERS": columns(
        "name:text pool_size reserve_pool_size pool_mode max_user_connections:int4 "
        "current_connections max_user_client_connections current_client_connections"
    ),
    "PEERS": columns("peer_id:int4 host:text port:int4 pool_size"),
    "PEER_POOLS": columns(
        "peer_id:int4 cl_active_cancel_req cl_waiting_cancel_req sv_active_cancel sv_login"
    ),
    "MEM": columns("name:text size:int4 used free memtotal"),
    "FDS": columns(
        "fd:int4 task:text user database addr port:int4 cancel:int8 link:int4 "
        "client_encoding:text std_strings datestyle timezone password "
        "scram_client_key:bytea scram_server_key"
    ),
    "DNS_HOSTS": columns("hostname:text ttl:int8 addrs:text"),
    "DNS_ZONES": columns("zonename:text serial:int8 count:int4"),
    "LISTS": columns("list:text items:int4"),
    "STATS": [("database", "text")]
    + numeric("total_", COUNTS + " received sent xact_time query_time wait_time " + PARSES)
    + numeric("avg_", COUNTS + " recv sent xact_time query_time wait_time " + PARSES),
    "STATS_TOTALS": [("database", "text")]
    + numeric("", COUNTS + " bytes_received bytes_sent xact_time query_time wait_time " + PARSES),
    "STATS_AVERAGES": [("database", "text")]
    + numeric("", COUNTS + " bytes_received bytes_sent xact_time query_time wait_time")
    + numeric("avg_", PARSES),
    "TOTALS": columns("name:text value:numeric"),
    "CONFIG": columns("key:text value default changeable"),
    "STATE": columns("key:text value"),
    "VERSION": columns("version:text"),
    "NODES": columns(
        "database:text node host port:int4 role:text state lag_bytes:int8 lag_ms lsn:text "
        "timeline:int4 sv_active sv_idle queries:int8 latency_us error:text "
        "chosen_by zone weight:int4 share failures:int8 left_out:text"
    ),
    "SHADOW": columns(
        "database:text target doubt:int4 count:int8 stale reason:text statement"
    ),
    "NODE_POOLS": columns(
        "database:text user node role sv_active:int4 sv_active_cancel sv_being_canceled sv_idle "
        "sv_used sv_tested sv_login pool_size queries:int8 logins failures error:text"
    ),
    "FACTS": columns("database:text state kind schema name effect reason"),
    "ALERTS": columns("name:text scope value:int4 threshold since:text for_s:int4 state:text"),
}

# Behind these in the console that is called weir.
OWN = {
    "CLIENTS": columns("node:text worker:int4 route:text"),
    "SERVERS": columns("node:text worker:int4"),
    "SOCKETS": columns("node:text worker:int4 route:text"),
    "ACTIVE_SOCKETS": columns("node:text worker:int4 route:text"),
}

# And with console_old_columns.
OLD = {"STATS": [("total_requests", "numeric")], "DATABASES": [("reserve_pool", "int4")]}


def types_of(cursor):
    """Names and types of a psycopg cursor's columns."""
    return [(column.name, TYPES[column.type_code]) for column in cursor.description]


def row_of(rows, **wanted):
    """The one row whose columns have these values."""
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, rows)
    return found[0]


def wait_until(condition, seconds=10 * poolers.PATIENCE):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(0.05)
    return found
