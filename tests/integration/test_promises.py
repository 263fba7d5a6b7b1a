"""Small things that drivers and tools notice: what a process id is good for, what a server's last
words look like, how parameters are spelled."""

import struct

import pytest

from tools import wait_running
from wire import SYNC, bind, cancel, execute, parse, query

PID_MAX = 4194304  # of Linux


def pid_of(client):
    return struct.unpack("!i", client.key[:4])[0]


@pytest.mark.weir_only
@pytest.mark.parametrize("settings", [{}, {"session_state": "track"}, {"pool_mode": "session"},
                                      {"peer_id": 3}])
def test_a_process_id_of_ours_hits_nobody(start_pooler, cluster, settings):
    """No process has such a number: PostgreSQL says so, and everybody's query goes on."""
    pooler = start_pooler(settings)
    clients = [pooler.client() for _ in range(20)]
    pids = [pid_of(one) for one in clients]
    assert all(pid < 0 or pid > PID_MAX for pid in pids), pids
    victim = clients[0]
    victim.send(query("SELECT pg_sleep(0.5), 'victim'"))
    wait_running(cluster, "victim")
    for pid in pids:
        for function in ("pg_cancel_backend", "pg_terminate_backend"):
            answer = clients[1].query(f"SELECT {function}({pid})")
            assert answer.value == "f" and answer.notices[0]["S"] == "WARNING", answer
    assert victim.answer().rows == [("", "victim")]
    for one in clients:
        one.close()


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_cancel_by_the_key_of_the_greeting(start_pooler, cluster, mode):
    pooler = start_pooler({"pool_mode": mode})
    with pooler.client() as client:
        client.send(parse("SELECT pg_sleep(60), 'victim'"), bind(), execute(), SYNC)
        wait_running(cluster, "victim")
        cancel(pooler.address, client.key)
        assert client.answer().code == "57014"
