"""A pooler that routes over all nodes of the cluster, and which node answered what.

    routed = start_routed(start_pooler, cluster)
    watch = Watch(routed)
    watch.settle()                       # both replicas may serve every read
    with routed.client() as client:
        client.query("SELECT 1")
    assert watch.where() == "replica"    # of the queries since the last look

What nodes did is read from SHOW NODES, which counts every query by the node that answered it, so
that no statement has to be routed by what it says about its node.
"""

import contextlib
import time

from pooler import ADMIN, PATIENCE, rows_of

import cluster as clusters

PROBING = {"probe_interval": "0.1", "probe_timeout": "1", "server_login_retry": "1"}
# A read of everything: fresh only where whatever was written has been replayed.
EVERYTHING = "SELECT pg_table_size(oid) FROM pg_class"


def entry_of(nodes, **more):
    """The right side of a [databases] line for these nodes."""
    rows = {
        "host": ",".join(node.host for node in nodes),
        "port": ",".join(str(node.port) for node in nodes),
        "dbname": clusters.DATABASE,
        **more,
    }
    return " ".join(f"{key}={value}" for key, value in rows.items())


def start_routed(start_pooler, cluster, settings=None, **more):
    """A pooler whose database `app` is all nodes, replicas first, with reads and writes parted."""
    nodes = [*cluster.standbys, cluster.primary]
    databases = {"app": entry_of(nodes, routing="read_write")}
    return start_pooler({**PROBING, **(settings or {})}, **{"databases": databases, **more})


class Watch:
    """The console's view of a routed pooler: what happened on which node since the last look."""

    def __init__(self, pooler, database="app"):
        self.pooler = pooler
        self.database = database
        self.console = pooler.psycopg(*ADMIN, database="weir")
        self.console.prepare_threshold = None
        self.seen = {}

    def show(self, what):
        return rows_of(self.console, f"SHOW {what}")

    def nodes(self):
        """The rows of SHOW NODES by the port of the node."""
        return {row["port"]: row for row in self.show("NODES") if row["database"] == self.database}

    def node(self, node):
        return self.nodes()[node.port]

    def queries(self):
        """How many queries each node answered since the last look, by port, without zeros."""
        now = {port: row["queries"] for port, row in self.nodes().items()}
        found = {port: count - self.seen.get(port, 0) for port, count in now.items()}
        self.seen = now
        return {port: count for port, count in found.items() if count > 0}

    def by_role(self):
        """The same by the role of the node: {"primary": 1, "replica": 2}."""
        primary = self.pooler.cluster.primary.port
        found = {}
        for port, count in self.queries().items():
            role = "primary" if port == primary else "replica"
            found[role] = found.get(role, 0) + count
        return found

    def where(self):
        """The one role that answered all queries since the last look."""
        roles = self.by_role()
        return next(iter(roles)) if len(roles) == 1 else roles

    def client(self, connection_port):
        """The row of SHOW CLIENTS for the client with this local port."""
        rows = [row for row in self.show("CLIENTS") if row["port"] == connection_port]
        assert len(rows) == 1, rows
        return rows[0]

    def why(self, client):
        """Why a wire.Client reads from the primary; empty if it does not."""
        return self.client(client.socket.getsockname()[1])["route"]

    def route(self, sql=EVERYTHING):
        """What SHOW ROUTE says of a statement now; without one, of a read of everything."""
        literal = sql.replace("'", "''")
        rows = [row for row in self.show(f"ROUTE '{literal}'") if row["database"] == self.database]
        return rows[0]

    def wait_route(self, words, sql=EVERYTHING, seconds=10 * PATIENCE):
        """Waits until SHOW ROUTE's reason for a read contains `words`."""
        deadline = time.monotonic() + seconds
        while words not in (reason := self.route(sql)["reason"]):
            assert time.monotonic() < deadline, f"{reason}\n{self.nodes()}"
            time.sleep(0.005)

    def settle(self, replicas=2, sql=EVERYTHING):
        """Waits until so many replicas may serve a read, then forgets what was counted."""
        several = f"least busy of {replicas}"
        self.wait_route(several if replicas > 1 else "the only one that can serve it", sql)
        self.queries()

    def wait_state(self, node, state, seconds=10 * PATIENCE):
        deadline = time.monotonic() + seconds
        while self.node(node)["state"] != state:
            assert time.monotonic() < deadline, self.nodes()
            time.sleep(0.02)


@contextlib.contextmanager
def replay_paused(*nodes):
    """Within, these standbys receive but do not show what the primary writes."""
    for node in nodes:
        node.pause_replay()
    try:
        yield
    finally:
        for node in nodes:
            node.resume_replay()


@contextlib.contextmanager
def stopped(cluster, *nodes):
    """Within, these nodes are down; afterwards the standbys stream again."""
    for node in nodes:
        node.kill()
    try:
        yield
    finally:
        for node in nodes:
            node.start()
        cluster.wait_streaming()
