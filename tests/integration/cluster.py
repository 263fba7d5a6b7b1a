"""A throwaway PostgreSQL cluster: one primary and streaming hot standbys in a temporary folder.

    with Cluster() as cluster:
        cluster.primary.sql("SELECT 1")
        cluster.nodes[1].kill()

Nodes are called pg1 (the primary at first), pg2, pg3, and carry that name as cluster_name, so
that `SHOW cluster_name` tells which one answers. Each listens on a loopback port of its own,
below the ephemeral range, and on a Unix socket in `folder`. Called by root, all servers run as
the user postgres (or nobody).

A guard, a small process of its own session, holds the read end of a pipe. When this process
closes the other end, in whatever way it dies, the guard kills every server, and every process
that was given to `guarded`, and removes the folder.

Roles: postgres and app_trust log in with no password (trust), app and app2 by SCRAM, app_plain
by a password in clear text, app_md5 by MD5, probe by SCRAM with pg_monitor; PASSWORDS has the
secrets. The database is `app`. Only the standard library is used.
"""

import contextlib
import fcntl
import glob
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PASSWORDS = {
    "app": "secret of app",
    "app2": "secret of app2",
    "app_plain": "secret of app_plain",
    "app_md5": "secret of app_md5",
    "probe": "secret of probe",
}
TRUSTED = ("postgres", "app_trust")
DATABASE = "app"
START_SECONDS = 30
PORTS = range(20000, 32000)
PORT_SHARES = 8

CONFIGURATION = """
listen_addresses = '127.0.0.1, ::1'
port = {port}
unix_socket_directories = '{folder}'
cluster_name = '{name}'
max_connections = 200
superuser_reserved_connections = 5
shared_buffers = 64MB
wal_level = logical
hot_standby = on
max_wal_senders = 20
max_prepared_transactions = 20
wal_keep_size = 512MB
wal_retrieve_retry_interval = 200ms
fsync = off
full_page_writes = off
password_encryption = scram-sha-256
logging_collector = off
log_line_prefix = '%m [%p] %q%u@%d '
timezone = 'UTC'
"""

HBA = """
local all,replication postgres,app_trust trust
host all,replication postgres,app_trust all trust
local all app_plain password
host all app_plain all password
local all app_md5 md5
host all app_md5 all md5
local all all scram-sha-256
host all all all scram-sha-256
"""

ROLES = """
CREATE ROLE app_trust LOGIN;
GRANT pg_signal_backend, pg_read_all_stats TO app_trust;
CREATE ROLE app LOGIN PASSWORD '{app}';
CREATE ROLE app2 LOGIN PASSWORD '{app2}';
CREATE ROLE app_plain LOGIN PASSWORD '{app_plain}';
CREATE ROLE probe LOGIN PASSWORD '{probe}';
GRANT pg_monitor TO probe;
SET password_encryption = md5;
CREATE ROLE app_md5 LOGIN PASSWORD '{app_md5}';
CREATE DATABASE app;
\\c app
GRANT ALL ON SCHEMA public TO PUBLIC;
"""


def program(name):
    """The path of one of PostgreSQL's programs, from the newest version that is installed."""
    found = glob.glob(f"/usr/lib/postgresql/*/bin/{name}")
    if found:
        return max(found, key=lambda path: int(path.split("/")[4]))
    path = shutil.which(name)
    if path is None:
        raise FileNotFoundError(f"{name} is not installed; the Debian package is postgresql")
    return path


def unprivileged():
    """The user that servers run as, or None where this process is not root itself."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise LookupError("there is neither a user postgres nor nobody")


def as_unprivileged(arguments):
    """The command that runs `arguments` without root's rights."""
    user = unprivileged()
    if user is None:
        return list(arguments)
    ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return ["setpriv", *ids, "--", *arguments]


def environment(**more):
    """Variables for a child: ours without those that libpq reads, and `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C.UTF-8", **more}


def give_away(path):
    """Makes `path` belong to the user that servers run as."""
    user = unprivileged()
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def own_ports():
    """This process's share of PORTS, in any order, again and again.

    A port is taken some time before somebody listens on it: runs at the same time, which each
    hold the lock of another share, must not come upon the same one, nor one run twice.
    """
    ports = list(PORTS)
    for share in range(PORT_SHARES):
        path = f"{tempfile.gettempdir()}/weir-test-ports.{os.getuid()}.{share}"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        ports = ports[share::PORT_SHARES]
        break
    random.shuffle(ports)
    return itertools.cycle(ports)


OWN_PORTS = own_ports()


def free_port():
    """A loopback port that nobody listens on, outside the range that outgoing connections use."""
    for port in itertools.islice(OWN_PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port found")


def process_facts(pid):
    """State letter, parent and start time (kernel ticks) of a process; None if it has gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else (fields[0], int(fields[1]), int(fields[19]))


def children(pid):
    """The process ids of the direct children of `pid`."""
    everyone = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    facts = {one: process_facts(one) for one in everyone}
    return [one for one, fact in facts.items() if fact is not None and fact[1] == pid]


def send_signal(pid, number):
    """Sends a signal; a process that has gone is fine."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


class Node:
    """One PostgreSQL server of the cluster."""

    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.host = "127.0.0.1"
        self.port = free_port()
        self.folder = cluster.folder
        self.data = os.path.join(cluster.folder, name)
        self.log = os.path.join(cluster.folder, f"{name}.log")
        self.process = None

    def begin_start(self):
        """Starts the server without waiting for it."""
        with open(self.log, "ab") as log:
            self.process = self.cluster.guarded(
                [program("postgres"), "-D", self.data], stdout=log, stderr=log
            )

    def wait_ready(self):
        """Waits until the server takes connections."""
        deadline = time.monotonic() + START_SECONDS
        state = os.path.join(self.data, "postmaster.pid")
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at its start:\n{self.log_text()[-3000:]}")
            try:
                with open(state, encoding="utf-8") as lines:
                    rows = lines.read().split("\n")
            except OSError:
                rows = []
            if len(rows) > 7 and rows[0] == str(self.process.pid):
                if rows[7].strip() in ("ready", "standby"):
                    return
            time.sleep(0.02)
        raise TimeoutError(f"{self.name} did not start:\n{self.log_text()[-3000:]}")

    def start(self):
        self.begin_start()
        self.wait_ready()

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        """A fast shutdown: sessions are ended, then the server."""
        if self.is_running():
            self.process.send_signal(signal.SIGINT)
        if self.process is not None:
            self.process.wait(START_SECONDS)

    def kill(self):
        """Kills all processes of the server at once, as a crash of the machine would."""
        if not self.is_running():
            return
        deadline = time.monotonic() + START_SECONDS
        # Stopped first: who is born in between would live on, and hold the memory that all share.
        send_signal(self.process.pid, signal.SIGSTOP)
        while (process_facts(self.process.pid) or "T")[0] not in "Tt":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} does not stop")
            time.sleep(0.001)
        everyone = [self.process.pid, *children(self.process.pid)]
        for pid in everyone:
            send_signal(pid, signal.SIGKILL)
        self.process.wait(START_SECONDS)
        while any(process_facts(pid) is not None for pid in everyone):
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes of {self.name} survive SIGKILL")
            time.sleep(0.01)

    def restart(self):
        self.stop()
        self.start()

    def freeze(self):
        """Stops all processes of the server without closing anything, as a hung machine would."""
        for pid in [self.process.pid, *children(self.process.pid)]:
            send_signal(pid, signal.SIGSTOP)

    def thaw(self):
        for pid in [*children(self.process.pid), self.process.pid]:
            send_signal(pid, signal.SIGCONT)

    def sql(self, text, database=DATABASE):
        """Runs SQL as the superuser; the rows as text, columns divided by `|`."""
        command = [program("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", self.folder, "-p", str(self.port), "-U", "postgres", "-d", database]
        done = subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def conninfo(self, user="postgres", database=DATABASE):
        """A connection string straight to this node."""
        return f"host={self.host} port={self.port} user={user} dbname={database}"

    def is_standby(self):
        return self.sql("SELECT pg_is_in_recovery()") == "t"

    def pause_replay(self):
        """WAL goes on arriving but is not applied: what this standby shows gets old."""
        self.sql("SELECT pg_wal_replay_pause()")
        self.wait_for("SELECT pg_get_wal_replay_pause_state()", "paused")

    def resume_replay(self):
        self.sql("SELECT pg_wal_replay_resume()")

    @contextlib.contextmanager
    def settings(self, **values):
        """Within, the server has these settings, each of a kind that a reload changes and spelled as
        SHOW does."""
        self.reconfigure(f"ALTER SYSTEM SET {name} = '{value}'" for name, value in values.items())
        for name, value in values.items():
            self.wait_for(f"SHOW {name}", value)
        try:
            yield
        finally:
            self.reconfigure(f"ALTER SYSTEM RESET {name}" for name in values)

    def reconfigure(self, commands):
        self.sql(";\n".join([*commands, "SELECT pg_reload_conf()"]))

    def promote(self):
        if self.sql("SELECT pg_promote(true, 30)") != "t":
            raise RuntimeError(f"{self.name} was not promoted")

    def wait_for(self, query, wanted, seconds=START_SECONDS, database=DATABASE):
        """Waits until `query` answers `wanted`."""
        deadline = time.monotonic() + seconds
        while (got := self.sql(query, database)) != wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: {query} is {got}, not {wanted}")
            time.sleep(0.05)

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()


class Cluster:
    """A primary and `standbys` hot standbys; a context manager."""

    def __init__(self, standbys=2):
        self.folder = tempfile.mkdtemp(prefix="weir-cluster-")
        os.chmod(self.folder, 0o755)
        give_away(self.folder)
        self.guard = None
        self.nodes = []
        try:
            self.begin_guard()
            self.nodes = [Node(self, f"pg{i + 1}") for i in range(1 + standbys)]
            self.make_primary()
            self.make_standbys()
        except BaseException:
            self.close()
            raise

    @property
    def primary(self):
        """The first node; where a test has promoted another it knows so itself."""
        return self.nodes[0]

    @property
    def standbys(self):
        return self.nodes[1:]

    def begin_guard(self):
        self.guard = subprocess.Popen(
            ["/usr/bin/python3", os.path.abspath(__file__), "--guard", self.folder],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def guarded(self, arguments, variables=None, **options):
        """Starts a process without root's rights which the guard ends at the latest."""
        process = subprocess.Popen(
            as_unprivileged(arguments),
            stdin=subprocess.DEVNULL,
            cwd=self.folder,
            env=environment(**(variables or {})),
            **options,
        )
        self.guard.stdin.write(f"{process.pid}\n".encode())
        self.guard.stdin.flush()
        return process

    def run(self, *arguments):
        done = subprocess.run(
            as_unprivileged(arguments),
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.folder,
            check=False,
            env=environment(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{arguments[0]} failed:\n{done.stdout}{done.stderr}")

    def configure(self, node):
        """Appends to the node's settings; the last line of a setting counts."""
        with open(os.path.join(node.data, "postgresql.conf"), "a", encoding="utf-8") as file:
            file.write(
                CONFIGURATION.format(port=node.port, folder=self.folder, name=node.name)
            )

    def make_primary(self):
        node = self.primary
        options = ["-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "trust", "--no-sync"]
        self.run(program("initdb"), "-D", node.data, *options, "--no-instructions")
        self.configure(node)
        with open(os.path.join(node.data, "pg_hba.conf"), "w", encoding="utf-8") as file:
            file.write(HBA)
        node.start()
        node.sql(ROLES.format(**PASSWORDS), database="postgres")

    def make_standbys(self):
        primary = self.primary
        source = f"host=127.0.0.1 port={primary.port} user=postgres application_name="
        for node in self.standbys:
            options = ["-c", "fast", "-X", "stream", "--no-sync", "-R", "-d", source + node.name]
            self.run(program("pg_basebackup"), "-D", node.data, *options)
            self.configure(node)
            node.begin_start()
        for node in self.standbys:
            node.wait_ready()
        self.wait_streaming()

    def wait_streaming(self):
        """Waits until every running standby receives the primary's WAL."""
        count = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
        running = [node for node in self.standbys if node.is_running()]
        self.primary.wait_for(count, str(len(running)))

    def wait_replayed(self):
        """Waits until every running standby shows what the primary shows now."""
        lsn = self.primary.sql("SELECT pg_current_wal_insert_lsn()")
        for node in self.standbys:
            if node.is_running():
                node.wait_for(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn", "t")

    def close(self):
        """Ends everything at once; nothing of it is worth an orderly shutdown."""
        for node in self.nodes:
            if node.is_running():
                node.thaw()
                node.process.send_signal(signal.SIGQUIT)
        for node in self.nodes:
            if node.process is not None:
                try:
                    node.process.wait(5)
                except subprocess.TimeoutExpired:
                    node.kill()
        if self.guard is not None:
            self.guard.stdin.close()
            self.guard.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def start_time(pid):
    """When a process started: with its id, its identity. None if it has gone."""
    facts = process_facts(pid)
    return None if facts is None else facts[2]


def guard(folder):
    """Waits for the end of the pipe, then kills what was started and removes the folder."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    started = {}
    for line in sys.stdin:
        started[int(line)] = start_time(int(line))
    for pid, since in started.items():
        if since is not None and start_time(pid) == since:
            everyone = [pid, *children(pid)]
            for one in everyone:
                send_signal(one, signal.SIGKILL)
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.05)


def describe(cluster):
    for node in cluster.nodes:
        role = "primary" if node is cluster.primary else "standby"
        print(f"{node.name} {role} postgres://app_trust@{node.host}:{node.port}/{DATABASE}")
    print(f"Unix sockets and logs: {cluster.folder}")
    print(f"role app, password: {PASSWORDS['app']}")
    print("Ctrl-C ends and removes it", flush=True)


def main():
    """The command: starts a cluster, says how to reach it, stays up until Ctrl-C."""
    if len(sys.argv) == 3 and sys.argv[1] == "--guard":
        guard(sys.argv[2])
        return
    if len(sys.argv) != 1:
        sys.exit("usage: scripts/cluster      (a primary and two standbys, until Ctrl-C)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with Cluster() as cluster:
            describe(cluster)
            signal.pause()
    except KeyboardInterrupt:
        print()


if __name__ == "__main__":
    main()
