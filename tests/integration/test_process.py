"""The process as the system sees it: its user, files, sockets, background, log, service manager."""

import contextlib
import grp
import os
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import time

import pytest

import cluster as clusters
import pooler as poolers
from pooler import PATIENCE
from test_signals import Manager

pytestmark = pytest.mark.weir_only


@pytest.fixture(scope="module")
def binary(cluster):
    """A copy of the binary that the servers' user can run."""
    path = os.path.join(cluster.folder, "weir-process")
    shutil.copy(poolers.BINARY, path)
    return path


class Site:
    """A folder with a configuration, and processes started from it."""

    def __init__(self, cluster, binary, folder):
        self.cluster = cluster
        self.binary = binary
        self.folder = folder
        self.port = clusters.free_port()
        self.ini = os.path.join(folder, "pooler.ini")
        self.pidfile = os.path.join(folder, "pooler.pid")
        self.logfile = os.path.join(folder, "pooler.log")
        self.unix = os.path.join(folder, f".s.PGSQL.{self.port}")
        self.started = []
        os.mkdir(folder)
        clusters.give_away(folder)
        with open(os.path.join(folder, "userlist.txt"), "w", encoding="utf-8") as file:
            file.write('"app_trust" ""\n')

    def write(self, **settings):
        rows = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": self.folder,
            "auth_type": "trust",
            "auth_file": os.path.join(self.folder, "userlist.txt"),
            "workers": poolers.WORKERS,
            **settings,
        }
        node = self.cluster.primary
        text = f"[databases]\napp = host={node.host} port={node.port}\n"
        text += "[pgbouncer]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items())
        with open(self.ini, "w", encoding="utf-8") as file:
            file.write(text)

    def command(self, *options, as_root=False, before=()):
        command = [*before, self.binary, *options, self.ini]
        return command if as_root else clusters.as_unprivileged(command)

    def run(self, *options, **more):
        """Runs to the end; the finished process, texts captured."""
        return subprocess.run(
            self.command(*options, **more),
            capture_output=True,
            text=True,
            timeout=20 * PATIENCE,
            check=False,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            env=clusters.environment(**poolers.SANITIZER_VARIABLES),
        )

    def start(self, *options, variables=None, pass_fds=(), **more):
        """Starts it and waits until it is up; the process, whose output goes to self.output."""
        self.output = os.path.join(self.folder, f"output{len(self.started)}")
        with open(self.output, "wb") as output:
            process = subprocess.Popen(
                self.command(*options, **more),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
                env=clusters.environment(**poolers.SANITIZER_VARIABLES, **(variables or {})),
            )
        self.started.append(process)
        return process

    def text(self, path=None):
        with contextlib.suppress(FileNotFoundError):
            with open(path or self.output, encoding="utf-8", errors="replace") as file:
                return file.read()
        return ""

    def wait(self, words, path=None, seconds=10 * PATIENCE):
        deadline = time.monotonic() + seconds
        while words not in self.text(path):
            assert time.monotonic() < deadline, f"no {words!r} in:\n{self.text(path)}"
            time.sleep(0.02)

    def is_serving(self, address=None):
        with contextlib.closing(socket.socket(socket.AF_INET if address else socket.AF_UNIX)) as s:
            try:
                s.connect(address or self.unix)
            except OSError:
                return False
        return True

    def query(self, sql, user="app_trust", database="app", host=None):
        command = [clusters.program("psql"), "-X", "-A", "-t", "-h", host or self.folder]
        command += ["-p", str(self.port), "-U", user, "-d", database, "-c", sql]
        done = subprocess.run(
            clusters.as_unprivileged(command),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            env=clusters.environment(),
        )
        return done.stdout.strip() + done.stderr.strip()

    def stop(self):
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGQUIT)
            status = process.wait(10 * PATIENCE)
            poolers.assert_whole(self.text(), status)
            assert status in (0, 1), f"exit status {status}:\n{self.text()}"
        for name in os.listdir(self.folder):
            if name.startswith("output") or name.endswith(".log"):
                poolers.assert_whole(self.text(os.path.join(self.folder, name)), 0)


@pytest.fixture
def site(cluster, binary, numbers):
    made = Site(cluster, binary, os.path.join(cluster.folder, f"site{next(numbers)}"))
    yield made
    made.stop()


def wait_gone(pid, seconds=10 * PATIENCE):
    deadline = time.monotonic() + seconds
    while clusters.process_facts(pid) is not None:
        assert time.monotonic() < deadline, f"process {pid} does not end"
        time.sleep(0.02)


def name_of_servers_user():
    user = clusters.unprivileged()
    return user.pw_name if user is not None else pwd.getpwuid(os.geteuid()).pw_name


# Who it is


def test_root_is_refused(site):
    site.write()
    before = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]
    done = site.run(as_root=True, before=before)
    assert done.returncode == 1
    assert "FATAL PgBouncer should not run as root" in done.stderr
    assert not os.path.exists(site.unix)


@pytest.mark.parametrize("option", ["-u", "--user", "setting"])
def test_it_becomes_the_user(site, option):
    """The option comes before the setting."""
    name = name_of_servers_user()
    if option == "setting":
        site.write(user=name)
        process = site.start(as_root=True)
    else:
        site.write(user="no_such_user")
        process = site.start(option, name, as_root=True)
    site.wait("process up")
    entry = pwd.getpwnam(name)
    status = site.text(f"/proc/{process.pid}/status")
    assert re.search(rf"^Uid:(\t{entry.pw_uid}){{4}}$", status, re.MULTILINE)
    assert re.search(rf"^Gid:(\t{entry.pw_gid}){{4}}$", status, re.MULTILINE)
    assert os.stat(site.unix).st_uid == entry.pw_uid
    assert site.query("SELECT 1") == "1"


def test_a_user_that_cannot_be_had(site):
    site.write()
    done = site.run("-u", "no_such_user")
    assert done.returncode == 1
    assert "FATAL could not find user 'no_such_user' to switch to" in done.stderr
    done = site.run("-u", "root")
    assert done.returncode == 1
    assert "FATAL failed to assume identity of user 'root': Operation not permitted" in done.stderr


# In the background


def test_daemon(site):
    site.write(pidfile=site.pidfile, logfile=site.logfile)
    done = site.run("-d")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    # It is up by the time the command returns.
    pid = int(site.text(site.pidfile))
    assert "process up" in site.text(site.logfile) and f"[{pid}]" in site.text(site.logfile)
    assert site.query("SELECT 1") == "1"
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    group, session, terminal = int(fields[2]), int(fields[3]), int(fields[4])
    assert group == session != pid and terminal == 0 and session != os.getsid(0)
    for fd in range(3):
        assert os.readlink(f"/proc/{pid}/fd/{fd}") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/cwd") == site.folder
    os.kill(pid, signal.SIGINT)
    wait_gone(pid)
    assert not os.path.exists(site.pidfile) and not os.path.exists(site.unix)


def test_a_daemon_tells_the_service_manager_who_it_is(site, monkeypatch):
    """Its main process is not the one that was started."""
    manager = Manager(site.folder)
    monkeypatch.setenv("NOTIFY_SOCKET", manager.path)
    site.write(pidfile=site.pidfile, logfile=site.logfile)
    assert site.run("-d").returncode == 0
    pid = site.text(site.pidfile).strip()
    assert manager.next_but_status() == {"READY": "1", "MAINPID": pid}
    os.kill(int(pid), signal.SIGTERM)
    assert manager.next_but_status() == {"STOPPING": "1"}
    wait_gone(int(pid))
    manager.socket.close()


def test_daemon_needs_a_pidfile_and_a_log(site):
    site.write(logfile=site.logfile)
    done = site.run("-d")
    assert done.returncode == 1 and "FATAL daemon needs pidfile configured" in done.stderr
    site.write(pidfile=site.pidfile)
    done = site.run("--daemon")
    assert done.returncode == 1 and "FATAL daemon needs logging configured" in done.stderr
    assert not os.path.exists(site.pidfile)


def test_daemon_that_cannot_start(site):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.port))
        taken.listen()
        site.write(pidfile=site.pidfile, logfile=site.logfile, unix_socket_dir="")
        assert site.run("-d").returncode == 1
    assert f"WARNING cannot listen on 127.0.0.1:{site.port}" in site.text(site.logfile)
    assert "FATAL nowhere to listen on" in site.text(site.logfile)
    assert not os.path.exists(site.pidfile)


# Files


def test_pidfile_of_a_living_process(site):
    with open(site.pidfile, "w", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    site.write(pidfile=site.pidfile)
    done = site.run()
    assert done.returncode == 1
    text = f"FATAL pidfile '{site.pidfile}' exists, another instance running?"
    assert text in done.stderr
    assert site.text(site.pidfile) == f"{os.getpid()}\n"


@pytest.mark.parametrize("content", ["3999999\n", "", "no number\n"])
def test_stale_pidfile(site, content):
    with open(site.pidfile, "w", encoding="utf-8") as file:
        file.write(content)
    site.write(pidfile=site.pidfile)
    process = site.start()
    site.wait("process up")
    assert "LOG stale pidfile, removing" in site.text()
    assert site.text(site.pidfile) == f"{process.pid}\n"
    process.send_signal(signal.SIGQUIT)
    assert process.wait(10 * PATIENCE) == 0
    assert not os.path.exists(site.pidfile)


def test_a_pidfile_of_somebody_else_is_left(site):
    """One that was replaced while the process ran is not its own any more."""
    site.write(pidfile=site.pidfile)
    process = site.start()
    site.wait("process up")
    os.unlink(site.pidfile)
    with open(site.pidfile, "w", encoding="utf-8") as file:
        file.write("1\n")
    process.send_signal(signal.SIGQUIT)
    assert process.wait(10 * PATIENCE) == 0
    assert site.text(site.pidfile) == "1\n"


def test_unix_socket_in_use(site):
    site.write(listen_addr="127.0.0.1", pidfile=site.pidfile)
    site.start()
    site.wait("process up")
    before = site.text(site.pidfile)
    for option in ([], ["-d"]):
        done = site.run(*option)
        assert done.returncode == 1
        assert "FATAL unix socket is in use, cannot continue" in done.stderr
    assert site.text(site.pidfile) == before and site.query("SELECT 1") == "1"


def test_a_file_that_is_no_socket_is_left(site):
    with open(site.unix, "w", encoding="utf-8") as file:
        file.write("mine")
    site.write()
    done = site.run()
    assert done.returncode == 1 and "Address already in use" in done.stderr
    assert site.text(site.unix) == "mine"


def test_mode_and_group_of_the_unix_socket(site):
    user = pwd.getpwnam(name_of_servers_user())
    group = grp.getgrgid(user.pw_gid).gr_name
    site.write(unix_socket_mode="0750", unix_socket_group=group)
    site.start()
    site.wait("process up")
    status = os.stat(site.unix)
    assert stat.S_IMODE(status.st_mode) == 0o750 and status.st_gid == user.pw_gid
    site.stop()
    site.write(unix_socket_group="no_such_group")
    done = site.run()
    assert done.returncode == 1 and "could not find group 'no_such_group'" in done.stderr
    assert not os.path.exists(site.unix)


def test_abstract_socket(site):
    site.write(unix_socket_dir=f"@weir-{os.getpid()}")
    site.start()
    site.wait("process up")
    assert f"listening on unix:@weir-{os.getpid()}/.s.PGSQL.{site.port}" in site.text()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"\0weir-{os.getpid()}/.s.PGSQL.{site.port}")
    assert site.run().returncode == 1


# Sockets


def test_several_addresses(site):
    site.write(listen_addr="127.0.0.1,does-not-exist.invalid")
    done = site.run()
    assert done.returncode == 1
    assert "FATAL cannot listen on does-not-exist.invalid:" in done.stderr
    # What cannot be had now is left out; localhost is 127.0.0.1, which is taken.
    site.write(listen_addr=" 127.0.0.1 ,198.51.100.1, 127.0.0.2,localhost", unix_socket_dir="")
    site.start()
    site.wait("process up")
    for address in ("198.51.100.1", "localhost"):
        assert f"WARNING cannot listen on {address}:{site.port}: " in site.text()
    for address in ("127.0.0.1", "127.0.0.2"):
        assert f"listening on {address}:{site.port}" in site.text()
        assert site.query("SELECT 1", host=address) == "1"
    assert not site.is_serving(("127.0.0.3", site.port))


def test_all_addresses(site):
    site.write(listen_addr="*")
    site.start()
    site.wait("process up")
    assert f"listening on 0.0.0.0:{site.port}" in site.text()
    assert site.is_serving(("127.0.0.3", site.port))


def test_no_tcp(site):
    site.write(listen_addr="")
    site.start()
    site.wait("process up")
    assert not site.is_serving(("127.0.0.1", site.port)) and site.query("SELECT 1") == "1"


def test_several_processes_on_one_port(site):
    other = os.path.join(site.folder, "other")
    os.mkdir(other)
    clusters.give_away(other)
    site.write(so_reuseport=1)
    one = site.start()
    site.wait("process up")
    site.write(so_reuseport=1, unix_socket_dir=other)
    two = site.start()
    site.wait("process up")
    for process in (one, two):  # each serves when it is alone
        pair = [one, two]
        pair.remove(process)
        if process is one:
            assert site.query("SELECT 1", host="127.0.0.1") == "1"
            pair[0].send_signal(signal.SIGQUIT)
            assert pair[0].wait(10 * PATIENCE) == 0
        assert site.query("SELECT 1", host="127.0.0.1") == "1"
    site.write(so_reuseport=0, unix_socket_dir="")
    assert "Address already in use" in site.run().stderr


def silent_connection(site):
    client = socket.create_connection(("127.0.0.1", site.port))
    time.sleep(0.3)
    return client


@pytest.mark.parametrize("is_on", [1, 0])
def test_tcp_defer_accept(site, is_on):
    """On, a connection that says nothing is not shown to the process; SET changes it."""
    site.write(tcp_defer_accept=is_on, verbose=2, admin_users="app_trust")
    site.start()
    site.wait("process up")
    for turn in (is_on, 1 - is_on):
        if turn != is_on:
            tag = f"SET tcp_defer_accept={turn}"
            assert site.query(tag, database="pgbouncer") == tag
        before = site.text().count("new fd from accept")
        with silent_connection(site) as client:
            assert site.text().count("new fd from accept") == before + (1 - turn)
            client.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")  # SSLRequest
            assert client.recv(1) in (b"N", b"S")


# The log


def test_quiet_silences_errors_of_the_file_too(site):
    """They are in the log that it names, as with PgBouncer."""
    site.write(logfile=site.logfile, server_idle_timeout="never")
    done = site.run("-q")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    text = site.text(site.logfile)
    assert 'ERROR invalid value "never" for parameter server_idle_timeout in configuration' in text
    assert "FATAL cannot load config file" in text


def test_log_goes_to_file_and_standard_error(site):
    site.write(logfile=site.logfile)
    site.start()
    site.wait("process up")
    site.wait("process up", site.logfile)
    site.stop()
    site.start("-q")
    site.wait("got SIGQUIT", site.logfile)
    deadline = time.monotonic() + 10 * PATIENCE
    while site.text(site.logfile).count("process up") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    site.started[-1].send_signal(signal.SIGHUP)  # which opens the log again
    deadline = time.monotonic() + 10 * PATIENCE
    while "got SIGHUP" not in site.text(site.logfile):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    site.stop()
    assert site.text() == ""


@pytest.mark.parametrize(
    "options,setting,levels",
    [
        ([], 0, []),
        (["-v"], 0, ["DEBUG"]),
        ([], 1, ["DEBUG"]),
        (["-v", "-v"], 0, ["DEBUG", "NOISE"]),
        (["-v"], 2, ["DEBUG", "NOISE"]),
    ],
)
def test_verbose(site, options, setting, levels):
    site.write(verbose=setting)
    site.start(*options)
    site.wait("process up")
    assert site.query("SELECT 1") == "1"
    site.stop()
    found = {words for words in ("DEBUG", "NOISE") if f" {words} " in site.text()}
    assert found == set(levels)


def test_prefixes_of_connections(site):
    """Who a line is about: an address, or the process at the other end of a Unix socket."""
    node = site.cluster.primary
    site.write()
    with open(site.ini, encoding="utf-8") as file:
        text = file.read()
    local = f"[databases]\nlocal = host={node.folder} port={node.port} dbname=app\n"
    with open(site.ini, "w", encoding="utf-8") as file:
        file.write(text.replace("[databases]\n", local + f"named = host=localhost port={node.port}\n"))
    site.start()
    site.wait("process up")
    assert site.query("SELECT 1", host="127.0.0.1") == "1"
    assert site.query("SELECT 1", database="local") == "1"
    site.query("SELECT 1", database="named")
    site.stop()
    for pattern in (
        r"C-0x[0-9a-f]+: app/app_trust@127\.0\.0\.1:\d+ login attempt: .*",
        rf"C-0x[0-9a-f]+: local/app_trust@unix\(\d+\):{site.port} login attempt: .*",
        rf"S-0x[0-9a-f]+: app/app_trust@127\.0\.0\.1:{node.port} new connection to server"
        r" \(from 127\.0\.0\.1:\d+\)",
        rf"S-0x[0-9a-f]+: local/app_trust@unix\(\d+\):{node.port} new connection to server",
        rf"S-0x[0-9a-f]+: named/app_trust@(127\.0\.0\.1|\[::1\]):{node.port} new connection to server"
        r" \(from (127\.0\.0\.1|\[::1\]):\d+\)",
    ):
        assert re.search(pattern + "$", site.text(), re.MULTILINE), pattern


def test_syslog_settings(site):
    site.write(syslog=1, syslog_facility="local9")
    done = site.run("--check")
    assert done.returncode == 0 and "it counts as daemon" in done.stdout
    site.write(syslog=1, syslog_facility="local5", syslog_ident="weir-test")
    site.start()
    site.wait("process up")
    assert site.query("SELECT 1") == "1"


# Socket activation


def start_with_sockets(site, sockets, *options, **more):
    """Starts it as systemd would, with listening sockets from descriptor 3 on."""
    lines = [f"exec {4 + i + 40}<&{s.fileno()}" for i, s in enumerate(sockets)]
    lines += [f"exec {3 + i}<&{4 + i + 40} {4 + i + 40}<&-" for i in range(len(sockets))]
    script = "; ".join([*lines, "export LISTEN_PID=$$", 'exec "$@"'])
    return site.start(
        *options,
        before=["/bin/bash", "-c", script, "bash"],
        pass_fds=[s.fileno() for s in sockets],
        variables={"LISTEN_FDS": str(len(sockets))},
        **more,
    )


def test_sockets_of_the_service_manager(site, cluster):
    path = os.path.join(site.folder, "activated")
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(path)
        os.chmod(path, 0o777)
        unix.listen()
        site.write()
        process = start_with_sockets(site, [tcp, unix])
        site.wait("process up")
        for name in ("listen_addr", "unix_socket_dir"):
            assert f"WARNING sockets passed from service manager, {name} ignored" in site.text()
        for fd in (3, 4):
            text = f"LOG listening on socket passed from service manager (fd {fd})"
            assert text in site.text()
        assert not site.is_serving() and not site.is_serving(("127.0.0.1", site.port))
        for address in (tcp.getsockname(), path):
            with contextlib.closing(poolers.wire.Client(address)) as client:
                client.login("app_trust", None, "app")
                assert client.query("SELECT 1").value == "1"
        process.send_signal(signal.SIGQUIT)
        assert process.wait(10 * PATIENCE) == 0
        assert os.path.exists(path)  # it belongs to the manager


def test_a_passed_descriptor_that_does_not_listen(site):
    with socket.socket() as tcp:
        site.write()
        process = start_with_sockets(site, [tcp])
        assert process.wait(10 * PATIENCE) == 1
    assert "FATAL failed to set up socket passed from service manager (fd 3)" in site.text()


def test_no_takeover_with_passed_sockets(site):
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        site.write()
        process = start_with_sockets(site, [tcp], "-R")
        assert process.wait(10 * PATIENCE) == 1
    assert "FATAL cannot reboot under service manager" in site.text()
