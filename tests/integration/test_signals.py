"""Signals and the console's SHUTDOWN and SUSPEND, and what the service manager is told."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time

import psycopg
import pytest

import pooler as poolers
from pooler import PATIENCE
from test_restart import restarts  # noqa: F401
from tools import in_threads, wait_running
from wire import Closed, LoginFailed, query, startup

pytestmark = pytest.mark.weir_only

KINDS = {"clients": signal.SIGTERM, "servers": signal.SIGINT}


def ended(pooler, seconds=5 * PATIENCE):
    """Whether the process ends within so long."""
    with contextlib.suppress(Exception):
        pooler.process.wait(seconds)
    return not pooler.is_running()


def console(pooler, **more):
    """A console connection over TCP, which stays open."""
    return pooler.psycopg(*poolers.ADMIN, database="pgbouncer", **more)


def begin_shutdown(pooler, kind, how):
    """By signal or by console; returns when the pooler has logged it."""
    if how == "signal":
        pooler.process.send_signal(KINDS[kind])
        pooler.wait_log("got SIG(TERM|INT), shutting down, waiting for all " + kind)
    else:
        with console(pooler) as admin:
            answer = admin.execute(f"SHUTDOWN WAIT_FOR_{kind.upper()}")
            assert answer.statusmessage == "SHUTDOWN"
        pooler.wait_log(f"SHUTDOWN WAIT_FOR_{kind.upper()} command issued")


def wait_refused(pooler):
    """It listens until a moment after the line in the log."""
    deadline = time.monotonic() + 5 * PATIENCE
    with pytest.raises(ConnectionRefusedError):
        while time.monotonic() < deadline:
            with contextlib.suppress(ConnectionResetError):
                pooler.connect().drop()
            time.sleep(0.01)


# Shutdown


@pytest.mark.parametrize("how", ["signal", "console"])
@pytest.mark.parametrize("kind", list(KINDS))
def test_the_unix_socket_serves_the_console_to_the_end(pooler, kind, how):
    busy = pooler.client()
    busy.query("BEGIN")
    begin_shutdown(pooler, kind, how)
    wait_refused(pooler)
    with pytest.raises(LoginFailed) as refused:
        pooler.client(unix=True)
    assert refused.value.fields["M"] == "pooler is shutting down"
    with pooler.client(*poolers.ADMIN, database="pgbouncer", unix=True) as admin:
        assert admin.query("SHOW STATE").rows[0][0] == "active"
        assert admin.query("RESUME").error["M"] == "pooler is shutting down"
        assert busy.query("SELECT 1").value == "1"
    assert os.path.exists(pooler.unix_path) and not ended(pooler, 0.3)
    busy.query("COMMIT")
    busy.close()
    start = time.monotonic()
    assert ended(pooler) and time.monotonic() - start < 2 * PATIENCE
    assert not os.path.exists(pooler.unix_path)
    assert f"{kind[:-1]} connections dropped, exiting" in pooler.log_text()


def test_a_console_does_not_keep_it(pooler):
    admin = pooler.client(*poolers.ADMIN, database="pgbouncer")
    pooler.process.send_signal(signal.SIGTERM)
    assert ended(pooler)
    with pytest.raises((Closed, OSError)):
        admin.query("SHOW STATE")


def test_who_needs_a_server_is_told(pooler):
    """WAIT_FOR_SERVERS: whoever has one goes on, all others are closed when they ask."""
    busy, idle = pooler.client(), pooler.client()
    busy.query("BEGIN")
    begin_shutdown(pooler, "servers", "signal")
    answer = idle.query("SELECT 1")
    assert (answer.error["S"], answer.error["C"]) == ("FATAL", "08P01")
    assert answer.error["M"] == "server shutting down"
    assert busy.query("SELECT 2").value == "2"
    busy.query("COMMIT")
    assert ended(pooler)


def test_sessions_go_on_while_clients_are_waited_for(pooler):
    client = pooler.client()
    begin_shutdown(pooler, "clients", "console")
    for i in range(20):
        assert client.query(f"SELECT {i}").value == str(i)
    client.close()
    assert ended(pooler)


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_it(pooler, first, second):
    client = pooler.client()
    client.query("BEGIN")
    pooler.process.send_signal(first)
    pooler.wait_log("shutting down, waiting")
    pooler.process.send_signal(second)
    assert ended(pooler)
    assert f"got {second.name} while shutting down, fast exit" in pooler.log_text()
    with pytest.raises((Closed, OSError)):
        client.query("SELECT 1")


def test_sigquit_says_nothing_to_clients(pooler):
    client = pooler.client()
    client.query("BEGIN")
    pooler.process.send_signal(signal.SIGQUIT)
    assert ended(pooler) and pooler.process.returncode == 0
    assert client.read_to_end().messages == []
    assert "LOG got SIGQUIT, fast exit" in pooler.log_text()


def test_console_shutdown_breaks_the_connection(pooler):
    client = pooler.client(*poolers.ADMIN, database="pgbouncer")
    client.send(query("SHUTDOWN"))
    assert client.read_to_end().messages == []
    assert ended(pooler) and pooler.process.returncode == 0
    assert "SHUTDOWN command issued" in pooler.log_text()


# Pause and resume by signal


def test_signals_of_pause(pooler):
    def send(number, text):
        pooler.process.send_signal(number)
        pooler.wait_log(text)

    send(signal.SIGUSR2, "LOG got SIGUSR2, but not paused/suspended")
    send(signal.SIGUSR1, "LOG got SIGUSR1, pausing all activity")
    send(signal.SIGUSR1, "LOG got SIGUSR1, but already paused/suspended")
    send(signal.SIGUSR2, "LOG got SIGUSR2, continuing from PAUSE")
    client = pooler.client()
    assert client.query("SELECT 1").value == "1"
    send(signal.SIGTERM, "LOG got SIGTERM, shutting down, waiting for all clients disconnect")
    send(signal.SIGUSR2, "LOG got SIGUSR2 while shutting down, ignoring")
    client.close()
    assert ended(pooler)


def test_a_running_query_is_waited_for_by_pause(pooler):
    client = pooler.client()
    client.send(query("SELECT pg_sleep(0.4), 'over'"))
    wait_running(pooler.cluster, "over")
    with console(pooler) as admin:
        start = time.monotonic()
        assert admin.execute("PAUSE").statusmessage == "PAUSE"
        assert time.monotonic() - start > 0.1
        assert client.answer().rows[0][1] == "over"
        admin.execute("RESUME")


# SUSPEND


def state(admin):
    return {row[0]: row[1] for row in admin.execute("SHOW STATE")}


def test_suspend_and_resume(pooler):
    """Nothing is read, nobody is accepted, nothing is lost."""
    clients = [pooler.client() for _ in range(5)]
    clients[0].query("BEGIN")
    clients[1].send(query("SELECT pg_sleep(0.3), 'running'"))
    wait_running(pooler.cluster, "running")
    with console(pooler) as admin:
        assert admin.execute("SUSPEND").statusmessage == "SUSPEND"
        assert state(admin)["suspended"] == "yes" and state(admin)["active"] == "no"
        for command in ("SUSPEND", "PAUSE"):
            with pytest.raises(psycopg.OperationalError, match="already suspended/paused"):
                admin.execute(command)
        clients[0].send(query("SELECT 'in transaction'"))
        clients[2].send(query("SELECT 'idle'"))
        new = pooler.connect()  # waits in the backlog
        new.send(startup({"user": "app_trust", "database": "app"}))
        for client in (clients[0], clients[1], clients[2], new):
            assert client.is_silent(0.15)
        clients[3].drop()
        assert admin.execute("RESUME").statusmessage == "RESUME"
        assert state(admin)["suspended"] == "no"
    assert clients[0].answer().value == "in transaction"
    assert clients[1].answer().rows[0][1] == "running"
    assert clients[2].answer().value == "idle"
    assert clients[4].query("SELECT 5").value == "5"
    assert clients[0].query("COMMIT").status == "I"
    assert new.read().kind == "R"


def test_suspend_is_refused_with_a_paused_database(pooler):
    with console(pooler) as admin:
        admin.execute("PAUSE app")
        with pytest.raises(psycopg.OperationalError, match="cannot suspend with paused databases"):
            admin.execute("SUSPEND")
        admin.execute("RESUME app")


def test_the_console_that_suspended_disappears(pooler):
    client = pooler.client()
    with console(pooler) as admin:
        admin.execute("SUSPEND")
        client.send(query("SELECT 1"))
        assert client.is_silent(0.2)
    pooler.wait_log("LOG admin disappeared when suspended, doing RESUME")
    assert client.answer().value == "1"


def test_sigusr2_ends_a_suspension(pooler):
    client = pooler.client()
    with console(pooler) as admin:
        admin.execute("SUSPEND")
        pooler.process.send_signal(signal.SIGUSR1)
        pooler.wait_log("LOG got SIGUSR1, but already paused/suspended")
        pooler.process.send_signal(signal.SIGUSR2)
        pooler.wait_log("LOG got SIGUSR2, continuing from SUSPEND")
        assert client.query("SELECT 1").value == "1"
        assert state(admin)["active"] == "yes"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_suspend_ends_it(pooler, number):
    with console(pooler) as admin:
        admin.execute("SUSPEND")
        pooler.process.send_signal(number)
        assert ended(pooler)
    assert pooler.process.returncode == 1
    assert "FATAL suspend was in progress, going down immediately" in pooler.log_text()
    pooler.process.returncode = 0  # what stop() expects


def test_suspend_timeout(start_pooler):
    """Who does not take its bytes is closed, so that SUSPEND is answered."""
    pooler = start_pooler({"suspend_timeout": 1, "tcp_socket_buffer": 4096})
    stuck, other = pooler.client(), pooler.client()
    stuck.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
    time.sleep(0.5)
    with console(pooler) as admin:
        start = time.monotonic()
        assert admin.execute("SUSPEND").statusmessage == "SUSPEND"
        assert 0.8 < time.monotonic() - start < 5 * PATIENCE
        assert re.search(r"closing because: suspend_timeout \(age=", pooler.log_text())
        admin.execute("RESUME")
    assert other.query("SELECT 1").value == "1"


def test_suspending_under_load_loses_nothing(pooler):
    over = []

    def work(number):
        if number == 0:
            try:
                with pooler.client(*poolers.ADMIN, database="pgbouncer") as admin:
                    for _ in range(10):
                        assert admin.query("SUSPEND").tags == ["SUSPEND"]
                        time.sleep(0.02)
                        assert admin.query("RESUME").tags == ["RESUME"]
                        time.sleep(0.03)
            finally:
                over.append(True)
            return
        with pooler.client() as client:
            count = 0
            while not over:
                count += 1
                assert client.query(f"SELECT {number * 1000000 + count}").value == str(
                    number * 1000000 + count
                )

    in_threads(6, work)


# The service manager


class Manager:
    """What systemd would be told."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o777)
        self.socket.settimeout(10 * PATIENCE)

    def next(self):
        """The next message as a dictionary."""
        text = self.socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.split("\n") if line)

    def next_but_status(self):
        while (told := self.next()).keys() == {"STATUS"}:
            pass
        return told


@pytest.fixture
def managed(cluster, start_pooler, numbers, monkeypatch):
    """A pooler that was started by a service manager; (pooler, manager)."""
    folder = os.path.join(cluster.folder, f"manager{next(numbers)}")
    os.mkdir(folder)
    manager = Manager(folder)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
    yield start_pooler({"stats_period": 1}), manager
    manager.socket.close()


def test_the_service_manager_is_told(managed):
    pooler, manager = managed
    assert manager.next() == {"READY": "1", "MAINPID": str(pooler.process.pid)}
    next_but_status = manager.next_but_status
    for text in (None, "listen_port = nonsense"):  # a good reload, and one that fails
        if text:
            pooler.write_ini({}, text=f"[pgbouncer]\n{text}\n")
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        pooler.reload()
        told = next_but_status()
        assert told.pop("RELOADING") == "1"
        assert before <= int(told.pop("MONOTONIC_USEC")) < before + 10_000_000 * PATIENCE
        assert not told and next_but_status()["READY"] == "1"
    while (told := manager.next()).keys() != {"STATUS"}:
        pass
    assert re.match(r"stats: \d+ xacts/s, \d+ queries/s, .* wait \d+ us$", told["STATUS"])
    pooler.process.send_signal(signal.SIGTERM)
    assert next_but_status() == {"STOPPING": "1"}
    assert ended(pooler)


def test_a_restart_is_no_end_to_the_service_manager(managed, restarts):  # noqa: F811
    """It hears who is the main process now, and nothing of the old one's end."""
    pooler, manager = managed
    with pooler.client() as client:
        for _ in range(2):
            told = manager.next_but_status()
            assert told == {"READY": "1", "MAINPID": str(pooler.process.pid)}
            restarts(pooler)()
        assert client.query("SELECT 1").value == "1"
    told = manager.next_but_status()
    assert told == {"READY": "1", "MAINPID": str(pooler.process.pid)}
    pooler.process.send_signal(signal.SIGTERM)
    assert manager.next_but_status() == {"STOPPING": "1"}


def test_a_reload_by_the_console_is_told_too(managed):
    pooler, manager = managed
    assert manager.next_but_status()["READY"] == "1"
    pooler.admin("RELOAD")
    told = manager.next_but_status()
    assert told.keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert manager.next_but_status() == {"READY": "1", "MAINPID": str(pooler.process.pid)}


def test_the_unit_file(cluster, tmp_path):
    """systemd takes it as it is installed, and what it says of the process holds."""
    unit = tmp_path / "weir.service"
    with open(os.path.join(poolers.TOP, "conf", "weir.service"), encoding="utf-8") as file:
        text = file.read()
    (tmp_path / "bin").mkdir()
    shutil.copy(poolers.BINARY, tmp_path / "bin" / "weir")
    unit.write_text(text.replace("@PREFIX@", str(tmp_path)), encoding="utf-8")
    pages = tmp_path / "man"
    for page in ("weir.1", "weir.ini.5"):
        folder = pages / f"man{page[-1]}"
        folder.mkdir(parents=True)
        shutil.copy(os.path.join(poolers.TOP, "man", page), folder)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MANPATH": str(pages)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    rows = dict(line.split("=", 1) for line in text.split("\n") if "=" in line)
    assert rows["Type"] == "notify" and rows["KillSignal"] == "SIGTERM"
    assert rows["ExecReload"] == "/bin/kill -HUP $MAINPID"
