"""Patroni's word: by a server that says what a test wants, and by a real Patroni with etcd."""

import contextlib
import http.server
import json
import os
import threading
import time
import urllib.request

import pytest

import cluster as clusters
from failover import ChangingCluster, Load, start_over
from pooler import PATIENCE
from routed import PROBING, Watch
from wire import query

pytestmark = [pytest.mark.weir_only, pytest.mark.timeout(90)]


class Teller(http.server.ThreadingHTTPServer):
    """Answers GET /cluster with `body`, or with a list of members made of it."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.body = b"{}"
        self.status = 200
        self.asked = 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def name(self, leader, nodes, host=None):
        members = [
            {
                "name": node.name,
                "role": "leader" if node is leader else "replica",
                "state": "running",
                "host": host or node.host,
                "port": node.port,
            }
            for node in nodes
        ]
        self.body = json.dumps({"members": members, "scope": "main"}).encode()


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        assert self.path == "/cluster"
        self.server.asked += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


def wait_for(condition, seconds=10 * PATIENCE):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def changing():
    with ChangingCluster() as made:
        yield made


def test_it_decides_between_two_primaries(start_pooler, changing):
    """At the start of a process, which knows nothing else. Who is no primary is not made one."""
    old, clone = changing.primary, changing.standbys[1]
    with Teller() as deaf, Teller() as teller:
        deaf.status = 503
        teller.name(changing.standbys[0], changing.nodes)
        clone.promote()
        settings = {"patroni_url": f"{deaf.url}, {teller.url}/", "probe_interval": "0.1"}
        pooler = start_over(start_pooler, changing, {**settings, "primary_wait_timeout": "0.5"})
        watch = Watch(pooler)
        wait_for(lambda: watch.node(clone)["role"] == "rival")
        wait_for(lambda: watch.node(changing.standbys[0])["chosen_by"] == "patroni")
        with pooler.client() as client:
            client.send(query("INSERT INTO writes VALUES (-3, 1)"))
            assert client.read_to_end(10 * PATIENCE).error["C"] == "57P03"
        teller.name(old, changing.nodes, host="localhost")  # another name of the same place
        wait_for(lambda: watch.node(old)["chosen_by"] == "patroni")
        wait_for(lambda: watch.node(old)["role"] == "primary")
        with pooler.client() as client:
            assert client.query("INSERT INTO writes VALUES (-3, 1)").tags == ["INSERT 0 1"]
        pooler.wait_log("Patroni names 127.0.0.1:.* as the leader")
        assert deaf.asked >= 1
    changing.rejoin(clone)


def test_answers_that_say_nothing(start_pooler, changing):
    """One line in the log, and the rules as without it."""
    with Teller() as teller:
        teller.body = b"<html>"
        settings = {"patroni_url": teller.url, "probe_interval": "0.1"}
        pooler = start_over(start_pooler, changing, settings)
        watch = Watch(pooler)
        watch.settle()
        asked = teller.asked
        wait_for(lambda: teller.asked > asked + 3)
        line = f"Patroni at 127.0.0.1:{teller.server_address[1]}/cluster does not answer"
        databases = 2
        assert pooler.log_text().count(line) == databases
        with pooler.client() as client:
            assert client.query("INSERT INTO writes VALUES (-4, 1)").tags == ["INSERT 0 1"]
        teller.body = b'{"members": "' + b"x" * 1_000_000 + b'"}'  # more than anybody wants
        asked = teller.asked
        wait_for(lambda: teller.asked > asked + 3)
        assert watch.node(changing.primary)["chosen_by"] is None
        teller.name(changing.primary, changing.nodes)
        wait_for(lambda: watch.node(changing.primary)["chosen_by"] == "patroni")
        pooler.wait_log("Patroni answers again")
        teller.name(None, changing.nodes)
        wait_for(lambda: watch.node(changing.primary)["chosen_by"] is None)
        assert watch.node(changing.primary)["role"] == "primary"


def test_a_database_has_its_own(start_pooler, changing):
    with Teller() as teller, Teller() as other:
        teller.name(changing.primary, changing.nodes)
        other.name(None, changing.nodes)
        settings = {"patroni_url": other.url, "probe_interval": "0.1"}
        pooler = start_over(start_pooler, changing, settings, patroni_url=teller.url)
        watch = Watch(pooler)
        wait_for(lambda: watch.node(changing.primary)["chosen_by"] == "patroni")
        lax = Watch(pooler, "lax")
        assert lax.node(changing.primary)["chosen_by"] is None
        pooler.write_ini(settings, databases={"app": pooler.node_string(*changing.nodes)})


def test_a_url_that_is_none(start_pooler, cluster):
    with pytest.raises(RuntimeError, match="patroni_url"):
        start_pooler({"patroni_url": "http://a, ftp://b"})
