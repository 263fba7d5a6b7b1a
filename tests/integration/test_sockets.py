"""What the settings of sockets and of syslog do: looked at in the process's own sockets, and from
where the system's log would be."""

import contextlib
import ctypes
import os
import re
import socket
import struct
import threading

import pytest

import cluster as clusters
import tls
import wire
from console import wait_until
from pooler import PATIENCE
from wire import LoginFailed

PIDFD_GETFD = 438  # the system call of Linux 5.6, which Python does not know
SO_BUF_LOCK = 72  # of Linux 5.14; not 0: the size of a buffer stays as it was set
SYSTEM = {"tcp_keepcnt": 9, "tcp_keepidle": 7200, "tcp_keepintvl": 75}
OPTIONS = {
    "tcp_keepalive": (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    "tcp_keepcnt": (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    "tcp_keepidle": (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    "tcp_keepintvl": (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    "tcp_user_timeout": (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
}


def sockets_of(pooler):
    """The process's TCP sockets, as sockets of this one."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = os.pidfd_open(pooler.process.pid)
    try:
        for fd in os.listdir(f"/proc/{pooler.process.pid}/fd"):
            try:
                if not os.readlink(f"/proc/{pooler.process.pid}/fd/{fd}").startswith("socket:"):
                    continue
            except FileNotFoundError:
                continue
            copy = libc.syscall(PIDFD_GETFD, handle, int(fd), 0)
            if copy < 0:
                continue
            with socket.socket(fileno=copy) as found:
                if found.family == socket.AF_INET and found.type == socket.SOCK_STREAM:
                    yield found
    finally:
        os.close(handle)


def connections(pooler, read):
    """What `read` says of the connections of clients and of servers."""
    clients, servers = [], []
    for found in sockets_of(pooler):
        try:
            peer = found.getpeername()[1]
        except OSError:
            continue
        if found.getsockname()[1] == pooler.port:
            clients.append(read(found))
        elif peer == pooler.cluster.primary.port:
            servers.append(read(found))
    return clients, servers


def listener(pooler, read):
    (found,) = [
        read(one)
        for one in sockets_of(pooler)
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        and one.getsockname()[1] == pooler.port
    ]
    return found


def options(found):
    return {name: found.getsockopt(*option) for name, option in OPTIONS.items()}


def buffers(found):
    return [found.getsockopt(socket.SOL_SOCKET, one) for one in (socket.SO_SNDBUF, socket.SO_RCVBUF)]


def both_ends(pooler, read):
    """The same of a new client's connection and of its server's."""
    with pooler.client() as client:
        client.query("BEGIN")
        clients, servers = connections(pooler, read)
        client.query("COMMIT")
        assert len(clients) == 1 and len(servers) >= 1
        return clients[0], servers[0]


def test_keepalive(start_both):
    settings = {
        "tcp_keepcnt": 3,
        "tcp_keepidle": 47,
        "tcp_keepintvl": 11,
        "tcp_user_timeout": 12345,
    }
    for pooler in start_both(settings):
        for end in both_ends(pooler, options):
            assert end == {"tcp_keepalive": 1, **settings}, pooler.kind
        pooler.stop()


def test_system_defaults(start_both):
    for pooler in start_both():
        ends = both_ends(pooler, options)
        fresh = {"tcp_keepalive": 1, "tcp_user_timeout": 0}
        with socket.socket() as new:
            fresh = {**options(new), **fresh}
        for end in ends:
            assert end == fresh, pooler.kind
        pooler.stop()


def test_no_keepalive(start_both):
    for pooler in start_both({"tcp_keepalive": 0, "tcp_keepidle": 47}):
        for end in both_ends(pooler, options):
            assert end["tcp_keepalive"] == 0, pooler.kind
        pooler.stop()


def test_keepalive_follows_set(start_both):
    """New connections have what was set last; 0 is the system's default again."""
    for pooler in start_both():
        pooler.admin("SET tcp_keepidle = 33")
        pooler.admin("SET tcp_user_timeout = 7000")
        client = pooler.client()
        found = connections(pooler, options)[0][-1]
        assert (found["tcp_keepidle"], found["tcp_user_timeout"]) == (33, 7000), pooler.kind
        client.close()
        wait_until(lambda pooler=pooler: connections(pooler, options)[0] == [])
        for name in ("tcp_keepidle", "tcp_user_timeout", "tcp_keepalive"):
            pooler.admin(f"SET {name} = 0")
        wait_until(lambda pooler=pooler: connections(pooler, options)[0] == [])
        client = pooler.client()
        found = connections(pooler, options)[0][-1]
        with socket.socket() as new:
            fresh = options(new)
        assert found == fresh, pooler.kind
        client.close()
        pooler.stop()


def test_a_reset_connection_is_logged_with_its_address(pooler):
    client = pooler.client()
    port = client.socket.getsockname()[1]
    client.reset()
    pooler.wait_log(rf"C-0x\w+: app/app_trust@127.0.0.1:{port} closing because: ")


@pytest.mark.weir_only
def test_user_timeout_ends_a_server(start_pooler):
    """A server that takes nothing any more costs its client the connection, and is told as any
    that was lost. (1.18 calls it closed where it notices by a write.)"""
    over = threading.Event()

    def take_nothing(connection):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        tls.read_startup(connection)
        connection.sendall(tls.GREETING)
        over.wait(30 * PATIENCE)

    with tls.Listener(take_nothing) as listener:
        place = f"host=127.0.0.1 port={listener.port} dbname=app"
        pooler = start_pooler({"tcp_user_timeout": 1000}, databases={"app": place})
        with pooler.client() as client:
            client.socket.setblocking(False)
            much = memoryview(wire.query("SELECT '" + "x" * 16_000_000 + "'"))
            with contextlib.suppress(BlockingIOError, ConnectionError):
                while much:
                    much = much[client.socket.send(much) :]
            error = client.read_to_end().error
            assert (error["S"], error["C"]) == ("FATAL", "08P01")
            assert error["M"] == "server conn crashed?"
        name = rf"S-0x\w+: app/app_trust@127.0.0.1:{listener.port}"
        pooler.wait_log(name + r" closing because: server conn crashed\? \(age=[1-9]")
        over.set()


def test_socket_buffer(start_both):
    for pooler in start_both({"tcp_socket_buffer": 65536}):
        for end in both_ends(pooler, buffers):
            assert end == [131072, 131072], pooler.kind  # the kernel doubles it
        pooler.stop()


@pytest.mark.weir_only
def test_socket_buffer_follows_set(start_pooler):
    """A size that was set is undone too, which a listening socket would hand on."""

    def locked(found):
        return found.getsockopt(socket.SOL_SOCKET, SO_BUF_LOCK)

    pooler = start_pooler()
    before = listener(pooler, buffers)
    pooler.admin("SET tcp_socket_buffer = 65536")
    for end in both_ends(pooler, buffers):
        assert end == [131072, 131072]
    pooler.admin("SET tcp_socket_buffer = 0")
    assert (listener(pooler, buffers), listener(pooler, locked)) == (before, 0)
    with pooler.client():
        clients, _ = connections(pooler, locked)
        assert clients == [0]


def backlog(found):
    """Of a listening socket TCP_INFO tells how many connections may wait."""
    info = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return struct.unpack_from("=I", info, 28)[0]


@pytest.mark.parametrize("given", [7, 0, -1])
def test_listen_backlog(start_both, given):
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
        most = int(file.read())
    for pooler in start_both({"listen_backlog": given}):
        assert listener(pooler, backlog) == (given if given >= 0 else most), pooler.kind
        pooler.stop()


@pytest.mark.parametrize("given", [1, 0])
def test_defer_accept(start_both, given):
    def seconds(found):
        return found.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT)

    for pooler in start_both({"tcp_defer_accept": given}):
        found = listener(pooler, seconds)
        assert (found > 0) == bool(given), pooler.kind
        pooler.stop()


# The system's log

# Runs a command with a /dev of its own in which a socket of ours is the system's log.
WITH_LOG = """
set -e
mkdir "$1/dev"
mount -t tmpfs tmpfs "$1/dev"
for name in null zero random urandom log; do touch "$1/dev/$name"; done
for name in null zero random urandom; do mount --bind "/dev/$name" "$1/dev/$name"; done
mount --bind "$1/log" "$1/dev/log"
mount --rbind "$1/dev" /dev
shift
exec "$@"
"""


@pytest.fixture
def system_log(cluster, numbers):
    """The folder of a datagram socket that stands for /dev/log, and the socket."""
    folder = os.path.join(cluster.folder, f"syslog{next(numbers)}")
    os.mkdir(folder)
    os.chmod(folder, 0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(os.path.join(folder, "log"))
        os.chmod(os.path.join(folder, "log"), 0o666)
        log.settimeout(10 * PATIENCE)
        yield folder, log


def start_logging(monkeypatch, start_pooler, folder, settings):
    """A pooler that sees that /dev/log; without root's rights in a user namespace."""
    before = clusters.as_unprivileged
    space = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    back = [] if os.geteuid() == 0 else ["unshare", "--user", f"--map-user={os.geteuid()}"]

    def wrapped(command):
        return [*space, "sh", "-c", WITH_LOG, "sh", folder, *back, *before(command)]

    monkeypatch.setattr(clusters, "as_unprivileged", wrapped)
    pooler = start_pooler(settings)
    monkeypatch.undo()
    return pooler


def lines_until(log, words):
    lines = []
    while not lines or words not in lines[-1]:
        lines.append(log.recv(8192).decode())
    return lines


def test_syslog(monkeypatch, start_pooler, system_log):
    folder, log = system_log
    settings = {"syslog": 1, "syslog_facility": "local3", "syslog_ident": "pool-a", "verbose": 1}
    pooler = start_logging(monkeypatch, start_pooler, folder, settings)
    with pooler.client() as client:
        client.query("SELECT 1")
    for line in lines_until(log, "login attempt: db=app user=app_trust"):
        priority = int(re.match(r"<(\d+)>", line)[1])
        assert priority // 8 == 19, line  # local3
        assert re.search(rf"> ?.*pool-a\[{pooler.process.pid}\]: ", line), line
    pooler.admin("SET syslog_facility = 'user'")
    pooler.client().close()
    last = lines_until(log, "login attempt: db=app user=app_trust")[-1]
    assert last.startswith("<14>"), last  # user, info
    with pytest.raises(LoginFailed):
        pooler.client(database="nowhere")
    assert lines_until(log, "pooler error: no such database: nowhere")[-1].startswith("<12>")
    pooler.admin("SET syslog = 0")
    log.settimeout(0.3)
    with pytest.raises(TimeoutError):  # what came before
        lines_until(log, "nothing says this")
    pooler.client().close()
    with pytest.raises(TimeoutError):
        log.recv(8192)
