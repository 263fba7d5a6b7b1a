"""A cluster whose primary changes, and clients that write meanwhile.

    with ChangingCluster() as nodes:
        with Load(pooler) as load:
            nodes.primary.kill()
            nodes.promote(nodes.standbys[0])
        load.report("crash")
        nodes.rejoin(old)

Standbys acknowledge commits, one of them each, so that nothing that a client was told is lost with
the primary. Whoever is promoted is followed by the others.
"""

import contextlib
import os
import threading
import time

import psycopg

import cluster as clusters
from pooler import PATIENCE
from routed import PROBING, entry_of

REWINDABLE = "wal_log_hints = on\nfull_page_writes = on\n"
SYNCHRONOUS = "synchronous_standby_names = 'ANY 1 (pg1, pg2, pg3)'\n"

WRITES = """
CREATE TABLE writes (client int, n int, PRIMARY KEY (client, n));
GRANT ALL ON writes TO PUBLIC;
"""


class ChangingCluster(clusters.Cluster):
    """Three nodes; `primary` is who has been promoted last."""

    def __init__(self):
        self.present = None
        super().__init__()

    @property
    def primary(self):
        return self.present or self.nodes[0]

    @property
    def standbys(self):
        return [node for node in self.nodes if node is not self.primary]

    @staticmethod
    def add_settings(node, text):
        with open(os.path.join(node.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write(text)

    def configure(self, node):
        super().configure(node)
        self.add_settings(node, REWINDABLE)

    def make_standbys(self):
        super().make_standbys()
        for node in self.nodes:
            self.add_settings(node, SYNCHRONOUS)
            node.sql("SELECT pg_reload_conf()")
        self.primary.sql(WRITES)
        self.wait_replayed()

    def source(self, node):
        """The line that makes `node` follow the primary."""
        return f"host=127.0.0.1 port={self.primary.port} user=postgres application_name={node.name}"

    def most_advanced(self):
        """The standby that has received the most."""
        received = "SELECT pg_last_wal_receive_lsn() - '0/0'"
        running = [node for node in self.standbys if node.is_running()]
        return max(running, key=lambda node: int(node.sql(received)))

    def promote(self, node):
        """Makes `node` the primary, and the other running standbys its own."""
        others = [one for one in self.standbys if one is not node and one.is_running()]
        node.promote()
        self.present = node
        for other in others:
            other.sql(f"ALTER SYSTEM SET primary_conninfo = '{self.source(other)}'")
            other.sql("SELECT pg_reload_conf()")

    def rejoin(self, node):
        """Brings a former primary back as a standby."""
        if node.is_running():
            node.stop()
        source = f"host=127.0.0.1 port={self.primary.port} user=postgres dbname=postgres"
        self.primary.sql("CHECKPOINT")  # so that the new timeline is in its control data
        if "shut down" not in self.state(node):
            node.start()
            node.stop()
        self.run(clusters.program("pg_rewind"), "-D", node.data, "--source-server", source)
        with open(os.path.join(node.data, "postgresql.auto.conf"), "w", encoding="utf-8") as file:
            file.write(f"primary_conninfo = '{self.source(node)}'\n")
        self.add_settings(node, f"port = {node.port}\ncluster_name = '{node.name}'\n")
        with open(os.path.join(node.data, "standby.signal"), "w", encoding="utf-8"):
            pass
        for name in ("postgresql.auto.conf", "postgresql.conf", "standby.signal"):
            clusters.give_away(os.path.join(node.data, name))
        node.start()
        self.wait_streaming()
        self.wait_replayed()

    def state(self, node):
        """What the control data say of its condition."""
        program = clusters.program("pg_controldata")
        done = clusters.subprocess.run(
            clusters.as_unprivileged([program, "-D", node.data]),
            capture_output=True,
            text=True,
            check=True,
            cwd=self.folder,
            env=clusters.environment(),
        )
        return next(line for line in done.stdout.split("\n") if "cluster state" in line)


def start_over(start_pooler, nodes, settings=None, **entry):
    """A pooler over all nodes, with the same order of hosts whoever is the primary."""
    databases = {
        "app": entry_of(nodes.nodes, routing="read_write", **entry),
        "lax": entry_of(nodes.nodes, routing="read_write", read_consistency="eventual"),
    }
    settings = {**PROBING, "probe_interval": "1", **(settings or {})}
    return start_pooler(settings, databases=databases)


def start_behind(start_pooler, fronts, settings=None):
    """A pooler that reaches the nodes through what stands in front of them."""
    databases = {"app": entry_of(fronts, routing="read_write")}
    return start_pooler({**PROBING, **(settings or {})}, databases=databases)


class Writer(threading.Thread):
    """Writes one new row after the other, in a transaction each, and notes what became of it."""

    def __init__(self, load, number):
        super().__init__(daemon=True)
        self.load = load
        self.number = number
        self.acknowledged = []
        self.unresolved = []
        self.errors = []
        self.longest = 0.0
        self.connection = None

    def write(self, n):
        begun = time.monotonic()
        try:
            if self.connection is None or self.connection.closed:
                self.connection = self.load.pooler.psycopg()
                self.connection.prepare_threshold = 1 if self.number % 2 else None
            self.connection.execute("INSERT INTO writes VALUES (%s, %s)", [self.number, n])
            self.acknowledged.append(n)
            self.load.times.append(time.monotonic())
        except (psycopg.Error, ValueError) as error:
            # A ValueError is psycopg's own: an error behind ParseComplete is more than it expects.
            sqlstate = getattr(error, "sqlstate", "08007")
            self.errors.append((sqlstate, str(error).split("\n", maxsplit=1)[0]))
            self.unresolved.append(n)
            if not isinstance(error, psycopg.Error):
                self.connection.close()
        self.longest = max(self.longest, time.monotonic() - begun)

    def run(self):
        n = self.load.first
        while not self.load.is_over.is_set():
            n += 1
            self.write(n)
            time.sleep(0.002)
        with contextlib.suppress(psycopg.Error):
            if self.connection is not None:
                self.connection.close()


class Load:
    """Writers at work while the block runs."""

    next_first = 0

    def __init__(self, pooler, count=4):
        self.pooler = pooler
        self.is_over = threading.Event()
        self.times = []
        Load.next_first += 1_000_000
        self.first = Load.next_first
        self.writers = [Writer(self, number) for number in range(count)]

    def __enter__(self):
        for writer in self.writers:
            writer.start()
        self.wait_writes(5 * len(self.writers))
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for writer in self.writers:
            writer.join(30 * PATIENCE)
            assert not writer.is_alive()

    def wait_writes(self, count=20, seconds=20 * PATIENCE):
        """Waits for so many more writes; the time of the first."""
        seen = len(self.times)
        deadline = time.monotonic() + seconds
        while len(self.times) < seen + count:
            assert time.monotonic() < deadline, (self.errors(), self.pooler.log_text()[-3000:])
            time.sleep(0.002)
        return self.times[seen]

    def errors(self):
        return [error for writer in self.writers for error in writer.errors]

    def first_after(self, moment):
        """When the first write after `moment` was acknowledged."""
        return min(one for one in self.times if one > moment)

    def report(self, name, flows_after=None):
        longest = max(writer.longest for writer in self.writers)
        flow = "" if flows_after is None else f", writes flow after {flows_after:.2f} s"
        print(
            f"{name}: {len(self.times)} writes, errors {self.errors()},"
            f" longest wait {longest:.2f} s{flow}"
        )

    def assert_nothing_is_lost(self, node):
        """Everything acknowledged is on `node`, and nothing that nobody has written."""
        rows = node.sql(f"SELECT client, n FROM writes WHERE n > {self.first}").split("\n")
        found = {tuple(map(int, row.split("|"))) for row in rows if row}
        told = {(writer.number, n) for writer in self.writers for n in writer.acknowledged}
        unresolved = {(writer.number, n) for writer in self.writers for n in writer.unresolved}
        assert told <= found, f"lost: {sorted(told - found)}"
        assert found <= told | unresolved, f"made up: {sorted(found - told - unresolved)}"


def accepts_writes(node, seconds=20):
    """Waits until a write straight to `node` is acknowledged; the moment."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            node.sql("CREATE TABLE IF NOT EXISTS accepted ()")
            return time.monotonic()
        except RuntimeError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
