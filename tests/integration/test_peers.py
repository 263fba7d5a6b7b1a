"""Cancel requests: what becomes of each, and how they find their way between peers."""

import os
import select
import socket
import struct
import threading
import time

import pytest

import cluster as clusters
import wire
from pooler import ADMIN, KIND, PATIENCE
from tools import in_threads, wait_running
from wire import cancel_request, query

pytestmark = pytest.mark.weir_only

CANCEL_CODE = struct.pack("!II", 16, 80877102)


class Proxy:
    """Stands between the pooler and PostgreSQL: holds cancel requests up, and answers back."""

    def __init__(self, target):
        self.target = target
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pass_cancels = threading.Event()
        self.pass_answers = threading.Event()
        self.pass_answers.set()
        self.cancels = 0
        self.is_over = False
        self.spawn(self.accept)

    def spawn(self, run, *arguments):
        threading.Thread(target=run, args=arguments, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            self.spawn(self.serve, client)

    def serve(self, client):
        try:
            first = client.recv(65536)
            if first.startswith(CANCEL_CODE):
                self.cancels += 1
                self.pass_cancels.wait()
            server = socket.create_connection(self.target)
            server.sendall(first)
            self.spawn(self.copy, client, server, None)
            self.copy(server, client, self.pass_answers)
        except OSError:
            pass

    def copy(self, source, sink, gate):
        try:
            while data := source.recv(65536):
                if gate is not None:
                    gate.wait()
                sink.sendall(data)
        except OSError:
            pass
        for one in (source, sink):
            try:
                one.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.pass_cancels.set()
        self.pass_answers.set()
        self.listener.close()


@pytest.fixture
def proxy(cluster):
    made = Proxy((cluster.primary.host, cluster.primary.port))
    yield made
    made.close()


def behind(proxy):
    return {"app": f"host=127.0.0.1 port={proxy.port} dbname=app"}


def request(pooler, key):
    """A cancel request that was sent, and whose end is still to come."""
    client = pooler.connect()
    client.send(cancel_request(key))
    return client


def wait_until(condition, seconds=5 * PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# What becomes of a request


def test_the_requester_waits_for_the_signal(start_pooler, cluster):
    """Its connection ends once PostgreSQL has got the request, and it is told nothing."""
    pooler = start_pooler()
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(30), 'victim'"))
        wait_running(cluster, "victim")
        assert request(pooler, client.key).read_to_end().messages == []
        assert client.answer(5 * PATIENCE).code == "57014"
    pooler.wait_log("closing because: successfully sent cancel request")


def test_reasons(start_pooler):
    pooler = start_pooler()
    with pooler.client() as idle:
        wire.cancel(pooler.address, idle.key)
        pooler.wait_log("closing because: cancel request for idle client")
        wire.cancel(pooler.address, os.urandom(8))
        pooler.wait_log("closing because: failed cancel request")
        with pooler.client(*ADMIN, database="pgbouncer") as console:
            wire.cancel(pooler.address, console.key)
            pooler.wait_log("closing because: cancel request for console client")
        for body in (idle.key[:4], idle.key + b"more", b""):
            client = pooler.connect()
            client.send(struct.pack("!II", 8 + len(body), 80877102) + body)
            assert client.read_to_end().messages == []
        pooler.wait_log("closing because: bad cancel request")
        assert pooler.log_text().count("closing because: bad cancel request") == 3
        assert idle.query("SELECT 1").value == "1"


def test_one_that_was_not_sent_is_dropped(start_pooler, cluster, proxy):
    """A pool of one has room for one request; the next waits, and is dropped when the query ends.
    The server is not lent while one is in flight."""
    pooler = start_pooler({"default_pool_size": 1}, databases=behind(proxy))
    with pooler.client() as client, pooler.client() as next_client:
        client.send(query("SELECT pg_sleep(1), 'victim'"))
        wait_running(cluster, "victim")
        first = request(pooler, client.key)
        wait_until(lambda: proxy.cancels == 1)
        second = request(pooler, client.key)
        time.sleep(0.1)
        (row,) = [row for row in pooler.admin("SHOW POOLS") if row["database"] == "app"]
        assert (row["cl_active_cancel_req"], row["cl_waiting_cancel_req"]) == (1, 1)
        assert (row["sv_active_cancel"], row["sv_active"]) == (1, 1)
        assert client.answer().code == ""
        assert second.read_to_end().messages == []
        pooler.wait_log("not sending cancel request for client that is now idle")
        states = sorted(row["state"] for row in pooler.admin("SHOW SERVERS"))
        assert states == ["active_cancel", "being_canceled"]
        next_client.send(query("SELECT 'untouched'"))
        assert next_client.is_silent(0.3) and first.is_silent(0.1)
        assert proxy.cancels == 1
        proxy.pass_cancels.set()
        assert first.read_to_end().messages == []
        assert next_client.answer().value == "untouched"


def test_many_requests_hit_nobody_else(start_pooler, cluster):
    pooler = start_pooler({"default_pool_size": 1})
    with pooler.client() as client, pooler.client() as other:
        for _ in range(3):
            client.send(query("SELECT pg_sleep(30), 'victim'"))
            wait_running(cluster, "victim")
            other.send(query("SELECT pg_sleep(0.1), 'untouched'"))
            in_threads(30, lambda _: wire.cancel(pooler.address, client.key))
            assert client.answer().code == "57014"
            assert other.answer().rows[0][1] == "untouched"


def test_cancel_wait_timeout(start_pooler, cluster, proxy):
    """Who waits so long is let go, and the server in doubt is not used again."""
    pooler = start_pooler({"cancel_wait_timeout": 1}, databases=behind(proxy))
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(3), pg_backend_pid() AS kept"))
        wait_running(cluster, "kept")
        began = time.monotonic()
        assert request(pooler, client.key).read_to_end().messages == []
        assert 0.9 < time.monotonic() - began < 3 * PATIENCE
        pooler.wait_log("closing because: cancel_wait_timeout")
        (_, pid) = client.answer().rows[0]
        assert client.query("SELECT pg_backend_pid()").value != pid


def test_settings_under_way_are_not_cancelled(start_pooler, proxy):
    """The client's own query has not begun."""
    pooler = start_pooler(databases=behind(proxy))
    with pooler.client(DateStyle="German") as client:
        proxy.pass_answers.clear()
        client.send(query("SELECT 'served'"))
        time.sleep(0.1)
        assert request(pooler, client.key).read_to_end().messages == []
        pooler.wait_log("ignoring cancel request for server that is setting vars")
        proxy.pass_answers.set()
        assert client.answer().value == "served"


def test_a_requester_may_leave_at_once(start_pooler, cluster):
    pooler = start_pooler()
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(30), 'victim'"))
        wait_running(cluster, "victim")
        request(pooler, client.key).drop()
        assert client.answer().code == "57014"


# Peers


def peer_of(client):
    return client.key[1] | client.key[2] << 8


@pytest.fixture
def group(start_pooler, cluster):
    """Three poolers with the ids 1, 258 and 3, each of which knows the others."""

    def start(host_of=lambda pooler: pooler.host, own_is_listed=True):
        ids = (1, 258, 3)
        poolers = [start_pooler({"peer_id": number}) for number in ids]
        for number, one in zip(ids, poolers):
            listed = {
                other: f"host={host_of(each)} port={each.port}"
                for other, each in zip(ids, poolers)
                if own_is_listed or other != number
            }
            one.write_ini({"peer_id": number}, peers=listed)
            one.admin("RELOAD")
        return poolers

    return start


def test_keys_carry_the_peer(group):
    for number, pooler in zip((1, 258, 3), group()):
        with pooler.client() as client:
            assert peer_of(client) == number
            assert client.key[7] & 3 == 3


@pytest.mark.parametrize("own_is_listed", [True, False])
@pytest.mark.parametrize("over", ["tcp", "unix"])
def test_a_request_finds_its_process(group, cluster, over, own_is_listed):
    hosts = {"tcp": lambda pooler: pooler.host, "unix": lambda pooler: pooler.folder}
    poolers = group(hosts[over], own_is_listed)
    for pooler in poolers:
        with pooler.client() as client:
            for entrance in poolers:
                client.send(query("SELECT pg_sleep(30), 'victim'"))
                wait_running(cluster, "victim")
                wire.cancel(entrance.address, client.key)
                assert client.answer(10 * PATIENCE).code == "57014"
    for pooler in poolers:
        assert pooler.log_text().count("closing because: successfully sent") >= 4


def test_processes_on_one_port(start_pooler, cluster):
    """Whichever of them the kernel leads a request to."""
    port = clusters.free_port()
    poolers = []
    for number in (1, 2):
        settings = {"so_reuseport": 1, "listen_port": port, "peer_id": number}
        one = start_pooler(settings, wait=False)
        one.port = port
        one.wait_ready()
        poolers.append((settings, one))
    listed = {
        settings["peer_id"]: f"host={one.folder} port={port}" for settings, one in poolers
    }
    for settings, one in poolers:
        one.write_ini(settings, peers=listed)
        with one.client(*ADMIN, database="pgbouncer", unix=True) as console:
            assert console.query("RELOAD").errors == []
    led_to = set()
    for count in range(60):
        if count >= 8 and len(led_to) == 2:
            break
        with poolers[0][1].client() as client:
            led_to.add(peer_of(client))
            client.send(query("SELECT pg_sleep(30), 'victim'"))
            wait_running(cluster, "victim")
            wire.cancel(poolers[0][1].address, client.key)
            assert client.answer(10 * PATIENCE).code == "57014"
    assert led_to == {1, 2}


def test_a_peer_that_is_not_listed(group):
    pooler, _, _ = group()
    key = bytes([0, 99, 0, 0, 0, 0, 0, 3])
    assert request(pooler, key).read_to_end().messages == []
    pooler.wait_log("closing because: could not find peer to forward request to")


def test_requests_do_not_go_in_circles(start_pooler):
    """Two processes of which each takes the other for number 7: three hops, then the end."""
    one = start_pooler({"peer_id": 1})
    two = start_pooler({"peer_id": 2})
    for number, own, other in ((1, one, two), (2, two, one)):
        own.write_ini({"peer_id": number}, peers={7: f"host=127.0.0.1 port={other.port}"})
        own.admin("RELOAD")
    request(one, bytes([0, 7, 0, 0, 0, 0, 0, 3])).read_to_end()
    two.wait_log("failed to forward cancel request because its TTL was exhausted")
    assert "TTL was exhausted" not in one.log_text()
    request(one, bytes([0, 7, 0, 0, 0, 0, 0, 0])).read_to_end()
    one.wait_log("failed to forward cancel request because its TTL was exhausted")


def test_a_peer_that_is_down(start_pooler):
    pooler = start_pooler({"peer_id": 1}, peers={2: "host=127.0.0.1 port=1"})
    assert request(pooler, bytes([0, 2, 0, 0, 0, 0, 0, 3])).read_to_end().messages == []
    pooler.wait_log("closing because: failed cancel request")
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"


def test_pool_size_of_a_peer(start_pooler):
    """No more requests than that are on the way to it; the others wait their turn."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        entry = f"host=127.0.0.1 port={mute.getsockname()[1]} pool_size=2"
        pooler = start_pooler({"peer_id": 1, "workers": 1}, peers={2: entry})
        key = bytes([0, 2, 0, 0, 0, 0, 0, 3])
        waiting = [request(pooler, key) for _ in range(5)]
        taken = [mute.accept()[0] for _ in range(2)]
        assert select.select([mute], [], [], 0.3)[0] == []
        (row,) = pooler.admin("SHOW PEERS")
        assert list(row.values()) == [2, "127.0.0.1", mute.getsockname()[1], 2]
        (row,) = pooler.admin("SHOW PEER_POOLS")
        assert list(row.values()) == [2, 2, 3, 2, 0]
        lists = {row["list"]: row["items"] for row in pooler.admin("SHOW LISTS")}
        assert (lists["peers"], lists["peer_pools"]) == (1, 1)
        for number in range(5):
            one = taken.pop(0)
            one.settimeout(5)
            assert one.recv(100) == cancel_request(key[:7] + b"\2")
            one.close()
            if number < 3:
                taken.append(mute.accept()[0])
        for client in waiting:
            assert client.read_to_end().messages == []


def test_without_a_number_there_are_no_peers(start_pooler):
    """A key with another process's number is then just an unknown one."""
    assert KIND == "weir"
    pooler = start_pooler(peers={2: "host=127.0.0.1 port=1"})
    with pooler.client() as client:
        assert peer_of(client) == 0
    request(pooler, bytes([0, 2, 0, 0, 0, 0, 0, 3])).read_to_end()
    pooler.wait_log("closing because: failed cancel request")
