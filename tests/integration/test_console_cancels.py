"""Cancel requests and peers, as the console shows them."""

import socket

import pytest

import wire
from console import row_of, wait_until
from test_peers import Proxy, behind, request

pytestmark = pytest.mark.weir_only

KEY_OF_PEER_2 = bytes([0, 2, 0, 0, 0, 0, 0, 3])


@pytest.fixture
def proxy(cluster):
    made = Proxy((cluster.primary.host, cluster.primary.port))
    yield made
    made.close()


def pool_of(pooler):
    return row_of(pooler.admin("SHOW POOLS"), database="app")


def states(pooler):
    return sorted(
        row["state"] for row in pooler.admin("SHOW CLIENTS") if "cancel" in row["state"]
    )


def cancels(pooler, view):
    return [row for row in pooler.admin(f"SHOW {view}") if "cancel" in row["state"]]


def test_cancel_connections_are_listed(start_both, cluster):
    """The request among the clients, and what carries it among the servers; each names the other,
    the pool's user and database as far as they are known."""
    for number in (0, 1):
        proxy = Proxy((cluster.primary.host, cluster.primary.port))
        settings = {"default_pool_size": 1, "reserve_pool_size": None}
        pooler = start_both(settings, databases=behind(proxy))[number]
        with pooler.client() as client:
            client.query("BEGIN")
            client.send(wire.query("SELECT pg_sleep(0.7)"))
            wait_until(lambda pooler=pooler: pool_of(pooler)["sv_active"] == 1)
            requests = [request(pooler, client.key) for _ in range(2)]
            wait_until(lambda proxy=proxy: proxy.cancels == 1)
            active, waiting = sorted(cancels(pooler, "CLIENTS"), key=lambda row: row["state"])
            (server,) = cancels(pooler, "SERVERS")
            assert cancels(pooler, "SOCKETS") == []
            for row in (active, waiting):
                assert (row["type"], row["user"], row["database"]) == ("C", "(nouser)", "app")
            assert (active["state"], waiting["state"]) == ("active_cancel_req", "waiting_cancel_req")
            assert (active["link"], active["ptr"]) == (server["ptr"], server["link"])
            assert waiting["link"] == ""
            found = {name: server[name] for name in ("type", "user", "database", "state")}
            assert found == {
                "type": "S",
                "user": "app_trust",
                "database": "app",
                "state": "active_cancel",
            }
            assert (server["remote_pid"], server["application_name"]) == (0, "")
            assert (server["addr"], server["local_addr"]) == ("127.0.0.1", "127.0.0.1")
            assert server["port"] == proxy.port and server["local_port"] > 0
            client.answer()
            proxy.pass_cancels.set()
            for one in requests:
                assert one.read_to_end().messages == []
        proxy.close()


def test_cancel_requests_are_counted(start_pooler, proxy):
    settings = {"default_pool_size": 1, "reserve_pool_size": None}
    pooler = start_pooler(settings, databases=behind(proxy))
    with pooler.client() as client:
        client.query("BEGIN")
        client.send(wire.query("SELECT pg_sleep(0.7)"))
        wait_until(lambda: pool_of(pooler)["sv_active"] == 1)
        requests = [request(pooler, client.key) for _ in range(3)]
        wait_until(lambda: proxy.cancels == 1)  # twice the size of the pool, and no more
        found = pool_of(pooler)
        assert (found["cl_active_cancel_req"], found["cl_waiting_cancel_req"]) == (1, 2)
        assert (found["sv_active_cancel"], found["sv_active"]) == (1, 1)
        assert (found["cl_active"], found["cl_waiting"]) == (1, 0)
        assert states(pooler) == ["active_cancel_req", *["waiting_cancel_req"] * 2]
        client.answer()
        proxy.pass_cancels.set()
        for one in requests:
            assert one.read_to_end().messages == []
        wait_until(lambda: pool_of(pooler)["cl_active_cancel_req"] == 0)
        assert pool_of(pooler)["sv_active_cancel"] == 0 and states(pooler) == []


def test_peers_are_listed(start_pooler):
    peers = {2: "host=127.0.0.1 port=7777 pool_size=3", 300: "host=/tmp"}
    pooler = start_pooler({"peer_id": 1, "default_pool_size": 9}, peers=peers)
    assert pooler.admin("SHOW PEERS") == [
        {"peer_id": 2, "host": "127.0.0.1", "port": 7777, "pool_size": 3},
        {"peer_id": 300, "host": "/tmp", "port": 6432, "pool_size": 9},
    ]
    lists = {row["list"]: row["items"] for row in pooler.admin("SHOW LISTS")}
    assert (lists["peers"], lists["peer_pools"]) == (2, 2)
    pooler.write_ini({"peer_id": 1})
    pooler.admin("RELOAD")
    assert pooler.admin("SHOW PEERS") == pooler.admin("SHOW PEER_POOLS") == []


def test_requests_for_a_peer_are_counted(start_pooler):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        entry = f"host=127.0.0.1 port={mute.getsockname()[1]} pool_size=2"
        pooler = start_pooler({"peer_id": 1}, peers={2: entry})
        requests = [request(pooler, KEY_OF_PEER_2) for _ in range(5)]
        taken = [mute.accept()[0] for _ in range(2)]
        assert pooler.admin("SHOW PEER_POOLS") == [
            {
                "peer_id": 2,
                "cl_active_cancel_req": 2,
                "cl_waiting_cancel_req": 3,
                "sv_active_cancel": 2,
                "sv_login": 0,
            }
        ]
        for number in range(5):
            taken.pop(0).close()
            if number < 3:
                taken.append(mute.accept()[0])
        for one in requests:
            assert one.read_to_end().messages == []
        counts = pooler.admin("SHOW PEER_POOLS")[0]
        assert (counts["cl_active_cancel_req"], counts["cl_waiting_cancel_req"]) == (0, 0)
