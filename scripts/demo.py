"""The second half of scripts/demo: cluster, Weir, workload, and the count of who answered what.

The count comes from the servers, not from Weir: each node logs the statements it runs, and the
workload's reads and writes are recognised there by their text.
"""

import os
import shutil
import signal
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TOP, "tests", "integration"))

import psycopg

import cluster as clusters
from tools import in_threads

USER, SECRET = "demo", "demo"
READY_SECONDS = 20
READS, READERS, WRITES = 400, 8, 60
WRITE_MARK, READ_MARK = "INSERT INTO orders", "FROM orders"

SETUP = f"""
CREATE ROLE {USER} LOGIN PASSWORD '{SECRET}';
GRANT pg_monitor TO {USER};
CREATE TABLE orders (id serial PRIMARY KEY, customer int NOT NULL, amount numeric NOT NULL);
CREATE INDEX ON orders (customer);
GRANT ALL ON orders, orders_id_seq TO {USER};
ALTER SYSTEM SET log_statement = 'all';
SELECT pg_reload_conf();
"""

INI = """[databases]
app = host={hosts} port={ports} dbname=app routing=read_write

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir = {folder}
auth_type = scram-sha-256
auth_file = {folder}/userlist.txt
admin_users = {user}
pool_mode = transaction
default_pool_size = 10
max_client_conn = 1000
workers = 1
http_listen = 127.0.0.1:{http_port}
probe_user = {user}
probe_password = {secret}
probe_interval = 0.2
"""


class Demo:
    def __init__(self, cluster):
        self.cluster = cluster
        self.port = clusters.free_port()
        self.http_port = clusters.free_port()
        self.folder = os.path.join(cluster.folder, "weir")
        self.log = os.path.join(self.folder, "weir.log")
        self.url = f"postgres://{USER}:{SECRET}@127.0.0.1:{self.port}/app"
        self.prepare_nodes()
        self.start_weir()

    def prepare_nodes(self):
        self.cluster.primary.sql(SETUP)
        for node in self.cluster.standbys:
            node.sql("ALTER SYSTEM SET log_statement = 'all'; SELECT pg_reload_conf()")
        self.cluster.wait_replayed()

    def start_weir(self):
        os.mkdir(self.folder)
        clusters.give_away(self.folder)
        nodes = self.cluster.nodes
        values = {
            "hosts": ",".join(node.host for node in nodes),
            "ports": ",".join(str(node.port) for node in nodes),
            "port": self.port,
            "http_port": self.http_port,
            "folder": self.folder,
            "user": USER,
            "secret": SECRET,
        }
        ini = os.path.join(self.folder, "weir.ini")
        with open(ini, "w", encoding="utf-8") as file:
            file.write(INI.format(**values))
        with open(os.path.join(self.folder, "userlist.txt"), "w", encoding="utf-8") as file:
            file.write(f'"{USER}" "{SECRET}"\n')
        # A copy, since the unprivileged user may not be able to look into the checkout.
        binary = shutil.copy(os.path.join(TOP, "build", "weir"), self.folder)
        with open(self.log, "ab") as log:
            self.process = self.cluster.guarded([binary, ini], stdout=log, stderr=log)

    def fail(self, text):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            sys.exit(f"demo: {text}\nWeir's log ends:\n{log.read()[-2000:]}")

    def wait_ready(self):
        """Waits until a query is answered, and until a read reaches a standby."""
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if self.process.poll() is not None:
                self.fail(f"weir ended with status {self.process.returncode}")
            try:
                with psycopg.connect(self.url, autocommit=True) as connection:
                    while self.count("0 AS ready")["pg1"] == self.total("0 AS ready"):
                        connection.execute("SELECT 0 AS ready")
                        time.sleep(0.1)
                        if time.monotonic() > deadline:
                            self.fail("no read reaches a standby")
                return
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    self.fail(f"no answer: {error}")
                time.sleep(0.1)

    def count(self, mark):
        """For each node, how many statements with `mark` it has logged."""
        return {node.name: count_statements(node, mark) for node in self.cluster.nodes}

    def total(self, mark):
        return sum(self.count(mark).values())


def count_statements(node, mark):
    """Lines of the log in which a client's statement begins that contains `mark`."""
    lines = node.log_text().split("\n")
    starts = (" statement: ", " execute ")
    return sum(mark in line and any(start in line for start in starts) for line in lines)


def write_and_read_back(connection, number):
    """A write, then a read that must see it."""
    insert = f"{WRITE_MARK} (customer, amount) VALUES (%s, %s) RETURNING id"
    (identity,) = connection.execute(insert, [number % 7, number]).fetchone()
    found = connection.execute(f"SELECT amount {READ_MARK} WHERE id = %s", [identity]).fetchone()
    return found == (number,)


def mixed_workload(url):
    """Writes, each followed by a read of it; half of them in transactions. How many reads did
    not see their write."""
    stale = 0
    with psycopg.connect(url, autocommit=True) as connection:
        for number in range(WRITES):
            if number % 2 == 0:
                stale += not write_and_read_back(connection, number)
            else:
                with connection.transaction():
                    stale += not write_and_read_back(connection, number)
    return stale


def reads_only(url):
    """Plain reads by several clients at a time, in the simple and the extended protocol."""

    def read(_):
        with psycopg.connect(url, autocommit=True) as connection:
            for number in range(READS // READERS // 2):
                connection.execute(f"SELECT count(*) {READ_MARK}").fetchone()
                text = f"SELECT sum(amount) {READ_MARK} WHERE customer = %s"
                connection.execute(text, [number % 7]).fetchone()

    in_threads(READERS, read)


def difference(after, before):
    return {name: after[name] - before[name] for name in after}


def run_workload(demo):
    """Runs both parts, prints who answered; whether everything went where it belongs."""
    before = demo.count(WRITE_MARK), demo.count(READ_MARK)
    stale = mixed_workload(demo.url)
    mixed = difference(demo.count(READ_MARK), before[1])
    demo.cluster.wait_replayed()
    time.sleep(1)
    middle = demo.count(READ_MARK)
    reads_only(demo.url)
    writes = difference(demo.count(WRITE_MARK), before[0])
    reads = difference(demo.count(READ_MARK), middle)
    print(f"\n{'node':6}{'role':10}{'writes':>8}{'reads just after':>20}{'other reads':>14}")
    for node in demo.cluster.nodes:
        role = "primary" if node is demo.cluster.primary else "standby"
        name = node.name
        print(f"{name:6}{role:10}{writes[name]:8}{mixed[name]:20}{reads[name]:14}")
    print(f"\n{WRITES} writes, each followed by a read of the same row: {stale} did not see it")
    on_standbys = sum(reads[node.name] for node in demo.cluster.standbys)
    return stale == 0 and writes["pg1"] == WRITES and on_standbys >= READS * 95 // 100


def explain(demo):
    print(f"""
DATABASE_URL={demo.url}
console:     psql postgres://{USER}:{SECRET}@127.0.0.1:{demo.port}/weir -c 'SHOW NODES'
metrics:     http://127.0.0.1:{demo.http_port}/metrics   health: /health   page: /
settings:    {demo.folder}/weir.ini
log:         {demo.log}
""")


def main():
    once = sys.argv[1:] == ["--once"]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print("starting a primary, two standbys and Weir", flush=True)
    try:
        with clusters.Cluster() as cluster:
            demo = Demo(cluster)
            demo.wait_ready()
            is_right = run_workload(demo)
            explain(demo)
            if not once:
                print("Ctrl-C ends and removes everything", flush=True)
                signal.pause()
    except KeyboardInterrupt:
        print()
        return
    if not is_right:
        sys.exit("demo: not everything went where it belongs")


if __name__ == "__main__":
    main()
