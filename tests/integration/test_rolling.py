"""A rolling restart: a new process beside the old one on the same port, which then gets TERM."""

import os
import signal
import threading

import psycopg
import pytest

import cluster as clusters
import wire
from console import wait_until
from pooler import ADMIN, PATIENCE
from test_peers import peer_of
from tools import wait_running
from wire import query

pytestmark = pytest.mark.weir_only


@pytest.fixture
def port():
    return clusters.free_port()


def listening(port):
    """How many sockets listen on a port of 127.0.0.1."""
    with open("/proc/net/tcp", encoding="utf-8") as file:
        lines = [line.split() for line in file]
    return sum(line[1] == f"0100007F:{port:04X}" and line[3] == "0A" for line in lines)


class Fleet:
    """Processes on one port, each with an id, a folder and a Unix socket of its own."""

    def __init__(self, start_pooler, port):
        self.start_pooler = start_pooler
        self.port = port
        self.running = {}

    def settings(self, number):
        rows = {"so_reuseport": 1, "listen_port": self.port, "peer_id": number}
        return {**rows, "default_pool_size": 6}

    def peers(self):
        return {
            number: f"host={one.folder} port={self.port}" for number, one in self.running.items()
        }

    def start(self, number):
        one = self.start_pooler(self.settings(number), wait=False)
        one.port = self.port
        one.wait_log("process up")
        self.running[number] = one
        for each, pooler in self.running.items():
            pooler.write_ini(self.settings(each), peers=self.peers())
            with pooler.client(*ADMIN, database="pgbouncer", unix=True) as console:
                assert console.query("RELOAD").errors == []
        return one

    def end(self, number):
        """TERM; returns once nobody new comes to that process."""
        one = self.running.pop(number)
        one.process.terminate()
        one.wait_log("got SIGTERM, shutting down, waiting for all clients disconnect")
        wait_until(lambda: listening(self.port) == len(self.running))
        return one


def test_nobody_notices(start_pooler, port, cluster):
    """Neither those who stay connected, whatever they do, nor those who come and go."""
    fleet = Fleet(start_pooler, port)
    fleet.start(1)
    over = threading.Event()
    failures = []
    counts = [0] * 6

    def come_and_go(number):
        with psycopg.connect(fleet.info, autocommit=True) as connection:
            assert connection.execute("SELECT %s::int", [number]).fetchone() == (number,)

    def work(number):
        try:
            while not over.is_set():
                come_and_go(number)
                counts[number] += 1
        except BaseException as failure:
            failures.append((number, failure))

    threads = [threading.Thread(target=work, args=[i], daemon=True) for i in range(len(counts))]
    fleet.info = fleet.running[1].conninfo()
    for thread in threads:
        thread.start()
    for number in range(2, 5):
        with fleet.running[number - 1].client() as stays:
            stays.query("BEGIN")
            fleet.start(number)
            old = fleet.end(number - 1)
            before = list(counts)
            wait_until(lambda: failures or all(now > then + 5 for now, then in zip(counts, before)))
            assert not failures, failures
            assert stays.query("SELECT 'mine'").value == "mine"
            assert stays.query("COMMIT").status == "I"
            assert peer_of(stays) == number - 1 and old.is_running()
            # Who comes now finds the new one, through which the old one's queries are cancelled.
            with fleet.running[number].client() as comes:
                assert peer_of(comes) == number
            stays.send(query("SELECT pg_sleep(30), 'victim'"))
            wait_running(cluster, "victim")
            wire.cancel(fleet.running[number].address, stays.key)
            assert stays.answer(10 * PATIENCE).code == "57014"
        assert old.process.wait(10 * PATIENCE) == 0
        assert not os.path.exists(old.unix_path)
    over.set()
    for thread in threads:
        thread.join(10 * PATIENCE)
    assert not failures, failures


def test_who_is_logging_in_is_let_in(start_pooler):
    """A connection that was made before TERM belongs to the clients that are waited for."""
    pooler = start_pooler({"tcp_defer_accept": 0, "auth_type": "scram-sha-256"})
    silent, asked = pooler.connect(), pooler.connect()
    asked.send(wire.startup({"user": "app", "database": "app"}))
    assert asked.read().kind == "R"
    # One more is in the backlog of a process that does nothing.
    pooler.process.send_signal(signal.SIGSTOP)
    waiting = pooler.connect()
    pooler.process.send_signal(signal.SIGTERM)
    pooler.process.send_signal(signal.SIGCONT)
    pooler.wait_log("got SIGTERM, shutting down")
    asked.scram(clusters.PASSWORDS["app"])
    assert asked.answer().status == "I"
    for client in (silent, waiting):
        client.login("app", clusters.PASSWORDS["app"])
        assert client.query("SELECT 1").value == "1"
        client.close()
    assert pooler.is_running() and asked.query("SELECT 1").value == "1"
    asked.close()
    assert pooler.process.wait(10 * PATIENCE) == 0
