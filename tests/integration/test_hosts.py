"""Lists of hosts, host names, and what SHOW DNS_HOSTS tells of them."""

import socket
import threading
import time

import pytest

import wire
from pooler import KIND, PATIENCE
from wire import LoginFailed


def place(cluster, **more):
    rows = {"host": "127.0.0.1", "port": cluster.primary.port, "dbname": "app", **more}
    return " ".join(f"{key}={value}" for key, value in rows.items())


class Forwarder:
    """A listening socket on another loopback address that passes everything on to a node."""

    def __init__(self, host, port, target):
        self.target = target
        self.count = 0
        self.listener = socket.create_server((host, port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                one, _ = self.listener.accept()
            except OSError:
                return
            self.count += 1
            other = socket.create_connection(self.target)
            for pair in ((one, other), (other, one)):
                threading.Thread(target=self.pump, args=pair, daemon=True).start()

    @staticmethod
    def pump(source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()


@pytest.fixture
def doors(cluster):
    """Two addresses that lead to the primary, on one port."""
    target = ("127.0.0.1", cluster.primary.port)
    with socket.create_server(("127.0.0.2", 0)) as free:
        port = free.getsockname()[1]
    made = [Forwarder(f"127.0.0.{number}", port, target) for number in (2, 3)]
    yield made, port
    for door in made:
        door.close()


def open_servers(pooler, count):
    """Makes that many servers of the database app at once."""
    clients = [pooler.client() for _ in range(count)]
    for client in clients:
        client.query("BEGIN")
    for client in clients:
        client.query("COMMIT")
        client.close()


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_round_robin_takes_the_next_host_for_each_connection(cluster, start_pooler, doors):
    made, port = doors
    pooler = start_pooler(
        databases={"app": place(cluster, host="127.0.0.2,127.0.0.3", port=port)}
    )
    open_servers(pooler, 6)
    assert [door.count for door in made] == [3, 3]


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_disable_stays_with_a_host_until_it_fails(cluster, start_pooler, doors):
    made, port = doors
    pooler = start_pooler(
        {"server_login_retry": "0.1"},
        databases={
            "app": place(
                cluster, host="127.0.0.2,127.0.0.3", port=port, load_balance_hosts="disable"
            )
        },
    )
    open_servers(pooler, 3)
    assert [door.count for door in made] == [3, 0]
    made[0].close()
    cluster.primary.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_trust'"
    )
    deadline = time.monotonic() + 10 * PATIENCE
    while made[1].count == 0:
        assert time.monotonic() < deadline
        try:
            with pooler.client() as client:
                client.query("SELECT 1")
        except (LoginFailed, wire.Closed):
            pass
        time.sleep(0.1)
    before = made[1].count
    open_servers(pooler, 3)
    assert made[1].count >= before


@pytest.mark.weir_only
@pytest.mark.one_worker
def test_a_dead_host_of_a_list_keeps_its_turn(cluster, start_pooler, doors):
    made, port = doors
    pooler = start_pooler(
        {"server_login_retry": "0.1"},
        databases={"app": place(cluster, host="127.0.0.4,127.0.0.2", port=port)},
    )
    deadline = time.monotonic() + 10 * PATIENCE
    while made[0].count == 0:
        assert time.monotonic() < deadline
        try:
            with pooler.client() as client:
                assert client.query("SELECT 1").value == "1"
        except LoginFailed:
            time.sleep(0.1)
    pooler.wait_log("connect failed")


# Names


def hosts_of(pooler):
    return {row["hostname"]: row for row in pooler.admin("SHOW DNS_HOSTS")}


def test_a_name_and_its_addresses(cluster, start_pooler):
    pooler = start_pooler(databases={"app": place(cluster, host="localhost")})
    assert hosts_of(pooler) == {}
    with pooler.client() as client:
        assert client.query("SELECT 1").value == "1"
    row = hosts_of(pooler)["localhost"]
    assert "127.0.0.1:0" in row["addrs"].split(",")
    assert 0 <= row["ttl"] <= 15
    lists = {one["list"]: one["items"] for one in pooler.admin("SHOW LISTS")}
    assert lists["dns_names"] == 1


def test_numbers_are_no_names(cluster, start_pooler):
    pooler = start_pooler()
    with pooler.client() as client:
        client.query("SELECT 1")
    assert hosts_of(pooler) == {}


def test_a_name_that_is_not_there(cluster, start_pooler):
    pooler = start_pooler(
        {"query_wait_timeout": "2"},
        databases={"app": place(cluster, host="no-such-host.invalid")},
    )
    with pytest.raises(LoginFailed):
        pooler.client()
    row = hosts_of(pooler)["no-such-host.invalid"]
    assert row["addrs"] == ""
    pooler.wait_log("server DNS lookup failed")
    if KIND == "weir":
        pooler.wait_log(r"WARNING DNS lookup failed: no-such-host\.invalid: result=-?\d+")


@pytest.mark.weir_only
def test_it_is_believed_for_a_while(cluster, start_pooler):
    """A failure for dns_nxdomain_ttl, an answer for dns_max_ttl; both can be set."""
    pooler = start_pooler(
        {"dns_max_ttl": "0.5", "dns_nxdomain_ttl": "60", "server_login_retry": "0.1"},
        databases={
            "app": place(cluster, host="localhost"),
            "bad": place(cluster, host="no-such-host.invalid"),
        },
    )
    with pooler.client() as client:
        client.query("SELECT 1")
    for _ in range(3):
        with pytest.raises(LoginFailed):
            pooler.client(database="bad")
        time.sleep(0.15)
    assert pooler.log_text().count("WARNING DNS lookup failed") <= 2  # one for each worker
    assert hosts_of(pooler)["no-such-host.invalid"]["ttl"] >= 50
    time.sleep(0.5)
    assert "localhost" not in hosts_of(pooler)
    pooler.admin("SET dns_nxdomain_ttl = 0")
    assert hosts_of(pooler) == {}
    before = pooler.log_text().count("WARNING DNS lookup failed")
    with pytest.raises(LoginFailed):
        pooler.client(database="bad")
    assert pooler.log_text().count("WARNING DNS lookup failed") > before


def test_zones_are_not_watched(cluster, start_pooler):
    pooler = start_pooler({"dns_zone_check_period": "5"})
    assert pooler.admin("SHOW DNS_ZONES") == []
