"""Runs the pooler under test: Weir, or PgBouncer to check the tests themselves against.

    pooler = Pooler(cluster, folder, settings={"pool_mode": "transaction"})
    client = pooler.client()             # a wire.Client, logged in
    connection = pooler.psycopg()        # a psycopg connection in autocommit
    pooler.admin("SHOW POOLS")           # rows of the console as dictionaries
    pooler.stop()                        # asserts a clean end

Environment: POOLER=weir (default) or pgbouncer; WEIR_BIN, the binary, build/weir by default;
WEIR_WORKERS, 1 by default. The process runs without root's rights from a copy of the binary in
the cluster's folder, so that the checkout may lie where other users cannot read.
"""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

import psycopg
from psycopg.rows import dict_row

import cluster as clusters
import wire

KIND = os.environ.get("POOLER", "weir")
TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARIES = {
    "weir": os.path.join(TOP, os.environ.get("WEIR_BIN", "build/weir")),
    "pgbouncer": "/usr/sbin/pgbouncer",
}
BINARY = BINARIES[KIND]
WORKERS = int(os.environ.get("WEIR_WORKERS", "1"))
SANITIZED = "asan" in BINARY or "tsan" in BINARY
# How much longer things may take under a sanitizer.
PATIENCE = 4 if SANITIZED else 1

ADMIN = ("admin", "secret of admin")
MONITOR = ("monitor", "secret of monitor")
SECRETS = {**clusters.PASSWORDS, **dict([ADMIN, MONITOR]), "app_trust": "", "postgres": ""}

# A report of a sanitizer, or a rule of Weir's own that was broken.
REPORTS = re.compile(r"Sanitizer|runtime error:|weir: bug:")
# OpenSSL is not built for the thread sanitizer, which therefore does not see how it orders its own
# work on certificates that several connections share.
SUPPRESSIONS = tempfile.NamedTemporaryFile("w", prefix="weir-suppressions-")
SUPPRESSIONS.write("called_from_lib:libcrypto.so\ncalled_from_lib:libssl.so\n")
SUPPRESSIONS.flush()
os.chmod(SUPPRESSIONS.name, 0o644)
SANITIZER_VARIABLES = {
    "ASAN_OPTIONS": "exitcode=99:detect_stack_use_after_return=1:strict_string_checks=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"exitcode=98:second_deadlock_stack=1:suppressions={SUPPRESSIONS.name}",
}


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def section(name, rows):
    return f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items())


# The poolers of the test that runs.
STARTED = []


class Broken(AssertionError):
    """The pooler crashed, or a sanitizer or a rule of Weir's own spoke. scripts/test knows it by its
    name: such a test gets no second try."""


def assert_whole(text, status):
    """Asserts that a process that has written `text` was not ended by a signal, and has no report.
    `status` is what Popen.poll() gives."""
    if found := REPORTS.search(text):
        raise Broken(text[max(0, found.start() - 200) : found.start() + 6000])
    if status is not None and status < 0:
        raise Broken(f"ended by signal {-status}:\n{text[-3000:]}")


class Pooler:
    """A running pooler. What is given as `settings` comes before the defaults; a setting given as
    None is left out. `databases` maps names to connection strings; without it there is `app`, the
    cluster's primary. `text` is a whole ini file to use instead of all that; `variables`
    go into the environment."""

    kind = KIND

    def __init__(self, cluster, folder, settings=None, text=None, secrets=None, wait=True, **more):
        self.variables = more.pop("variables", {})
        self.cluster = cluster
        self.folder = folder
        self.host = "127.0.0.1"
        self.port = clusters.free_port()
        self.http_port = clusters.free_port()
        self.ini = os.path.join(folder, "pooler.ini")
        self.log = os.path.join(folder, "pooler.log")
        self.auth_file = os.path.join(folder, "userlist.txt")
        self.process = None
        os.mkdir(folder)
        clusters.give_away(folder)
        STARTED.append(self)
        self.write_auth_file(SECRETS if secrets is None else secrets)
        self.write_ini(settings or {}, text, **more)
        self.start()
        if wait:
            self.wait_ready()

    def write_auth_file(self, secrets):
        with open(self.auth_file, "w", encoding="utf-8") as file:
            for user, secret in secrets.items():
                file.write(f"{quoted(user)} {quoted(secret)}\n")

    def default_settings(self):
        rows = {
            "listen_addr": self.host,
            "listen_port": self.port,
            "unix_socket_dir": self.folder,
            "auth_type": "trust",
            "auth_file": self.auth_file,
            "admin_users": ADMIN[0],
            "stats_users": MONITOR[0],
            "pool_mode": "transaction",
            "max_client_conn": 500,
            "ignore_startup_parameters": "extra_float_digits",
            "server_tls_sslmode": "disable",
        }
        if self.kind == "weir":
            rows.update({"workers": WORKERS, "http_listen": f"{self.host}:{self.http_port}"})
            rows.update({"probe_user": "probe", "probe_password": SECRETS["probe"]})
        return rows

    def write_ini(self, settings, text=None, databases=None, users=None, nodes=None, peers=None):
        """Writes the file anew; a running pooler reads it at reload()."""
        rows = {**self.default_settings(), **settings}
        if text is None:
            text = section("databases", databases or {"app": self.node_string()})
            text += section("users", users) if users else ""
            text += section("nodes", nodes) if nodes else ""
            text += section("peers", peers) if peers else ""
            given = {key: value for key, value in rows.items() if value is not None}
            text += section("pgbouncer", given)
        with open(self.ini, "w", encoding="utf-8") as file:
            file.write(text)

    def node_string(self, *nodes, **more):
        """The right side of a [databases] line for these nodes; without any, for the primary."""
        nodes = nodes or (self.cluster.primary,)
        rows = {
            "host": ",".join(node.host for node in nodes),
            "port": ",".join(str(node.port) for node in nodes),
            "dbname": clusters.DATABASE,
            **more,
        }
        return " ".join(f"{key}={value}" for key, value in rows.items())

    def start(self):
        binary = os.path.join(self.cluster.folder, os.path.basename(BINARIES[self.kind]))
        if not os.path.exists(binary):
            shutil.copy(BINARIES[self.kind], binary + ".new")
            os.rename(binary + ".new", binary)
        with open(self.log, "ab") as log:
            self.process = self.cluster.guarded(
                [binary, self.ini],
                variables={**SANITIZER_VARIABLES, **self.variables},
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, seconds=10 * PATIENCE):
        """Waits until connections are accepted, over TCP and the Unix socket."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                self.connect().drop()
                self.connect(unix=True).drop()
                return
            except OSError:
                time.sleep(0.02)
        assert_whole(self.log_text(), self.process.returncode)
        raise RuntimeError(f"the pooler does not listen:\n{self.log_text()[-3000:]}")

    @property
    def address(self):
        return (self.host, self.port)

    @property
    def unix_path(self):
        return os.path.join(self.folder, f".s.PGSQL.{self.port}")

    # Clients

    def connect(self, seconds=20 * PATIENCE, unix=False):
        """A wire.Client that has said nothing yet."""
        return wire.Client(self.unix_path if unix else self.address, seconds)

    def client(self, user="app_trust", secret=None, database="app", unix=False, **parameters):
        """A wire.Client that is logged in."""
        client = self.connect(unix=unix)
        client.login(user, secret, database, **parameters)
        return client

    def conninfo(self, user="app_trust", secret=None, database="app", **more):
        rows = {"host": self.host, "port": self.port, "user": user, "dbname": database, **more}
        if secret is not None:
            rows["password"] = secret
        rows.setdefault("sslmode", "disable")
        rows.setdefault("connect_timeout", 20 * PATIENCE)
        return psycopg.conninfo.make_conninfo(**rows)

    def psycopg(self, user="app_trust", secret=None, database="app", autocommit=True, **more):
        """A psycopg connection; `more` goes into the connection string."""
        info = self.conninfo(user, secret, database, **more)
        return psycopg.connect(info, autocommit=autocommit)

    def psql(self, sql, user="app_trust", secret=None, database="app", host=None, options=()):
        """Runs psql with `sql` as its input; the finished process, texts captured."""
        command = [clusters.program("psql"), "-X", "-A", "-t", *options]
        command += ["-h", host or self.host, "-p", str(self.port), "-U", user, "-d", database]
        variables = {"PGPASSWORD": secret} if secret is not None else {}
        return subprocess.run(
            command,
            input=sql,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=clusters.environment(**variables, PGSSLMODE="disable"),
        )

    def admin(self, command, user=ADMIN, database="pgbouncer"):
        """One console command; its rows as dictionaries, [] for a command without rows. The console
        called weir shows columns of Weir's own, too."""
        with self.psycopg(*user, database=database) as connection:
            return rows_of(connection, command)

    # The process

    def log_text(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def wait_log(self, pattern, seconds=10 * PATIENCE):
        """Waits until a line of the log matches; the match."""
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.log_text())) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"no {pattern!r} in the log:\n{self.log_text()[-3000:]}")
            time.sleep(0.02)
        return found

    def is_running(self):
        return self.process.poll() is None

    def status_bytes(self, name):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            found = re.search(rf"^{name}:\s+(\d+) kB", status.read(), re.MULTILINE)
        return int(found[1]) * 1024

    def memory(self):
        """Resident bytes now."""
        return self.status_bytes("VmRSS")

    def memory_peak(self):
        """The most resident bytes since the start, or since forget_peak()."""
        return self.status_bytes("VmHWM")

    def forget_peak(self):
        with open(f"/proc/{self.process.pid}/clear_refs", "w", encoding="utf-8") as file:
            file.write("5")

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def stop(self, number=None):
        """Ends the pooler and asserts that it ends at once, with status 0 and no report."""
        if self.is_running():
            usual = signal.SIGQUIT if self.kind == "weir" else signal.SIGTERM
            self.process.send_signal(number or usual)
        try:
            status = self.process.wait(10 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"does not end:\n{self.log_text()[-3000:]}") from None
        text = self.log_text()
        if self.kind == "weir":
            assert_whole(text, status)
            assert status == 0, f"exit status {status}:\n{text[-3000:]}"


class PgBouncer(Pooler):
    """Debian's PgBouncer, to be asked the same as Weir in one test."""

    kind = "pgbouncer"


def rows_of(connection, command):
    """Runs `command` by a simple query; its rows as dictionaries."""
    cursor = connection.cursor(row_factory=dict_row)
    cursor.execute(command)
    return cursor.fetchall() if cursor.description else []
