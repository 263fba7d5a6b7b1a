"""Debian's prometheus-pgbouncer-exporter, as it is installed, with Weir behind it.

It asks for two columns under names that PgBouncer gave up long ago (total_requests, reserve_pool),
so that it fails with every PgBouncer of the last years, and with a Weir that is like them;
console_old_columns brings these columns back.
"""

import re
import urllib.request
from subprocess import PIPE

import pytest

import cluster as clusters
import pooler as poolers
from console import row_of, wait_until

pytestmark = pytest.mark.weir_only

PROGRAM = "/usr/bin/prometheus-pgbouncer-exporter"


def start_program(pooler, port, **options):
    command = [PROGRAM, "--host", "127.0.0.1", "--port", str(port)]
    command += ["--pgbouncer-host", pooler.host, "--pgbouncer-port", str(pooler.port)]
    command += ["--pgbouncer-user", poolers.MONITOR[0]]
    variables = {"PGPASSWORD": poolers.MONITOR[1], "PGSSLMODE": "disable"}
    return pooler.cluster.guarded(command, variables=variables, **options)


class Exporter:
    def __init__(self, pooler):
        self.port = clusters.free_port()
        self.process = start_program(pooler, self.port)
        wait_until(self.answers)

    def get(self):
        """The body of its page of metrics."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as page:
            return page.read().decode()

    def answers(self):
        try:
            return self.get()
        except OSError:
            assert self.process.poll() is None, "the exporter has ended"
            return False

    def metrics(self):
        """Values by name and labels: {'pgbouncer_pools': 2.0, 'pgbouncer_x{database="app"}': 1}."""
        found = re.findall(r"^(pgbouncer_\S+(?:\{[^}]*\})?) (\S+)$", self.get(), re.MULTILINE)
        return {name: float(value) for name, value in found}

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture
def start_exporter():
    made = []

    def start(pooler):
        made.append(Exporter(pooler))
        return made[-1]

    yield start
    for one in made:
        one.stop()


@pytest.mark.parametrize("auth_type", ["trust", "scram-sha-256"])
def test_metrics_are_right(start_pooler, start_exporter, auth_type):
    settings = {"console_old_columns": 1, "auth_type": auth_type, "default_pool_size": 3}
    pooler = start_pooler(settings)
    exporter = start_exporter(pooler)
    secret = poolers.SECRETS["app"]
    with pooler.client("app", secret) as busy, pooler.client("app", secret) as idle:
        for _ in range(5):
            idle.query("SELECT 1")
        busy.query("BEGIN")
        metrics = exporter.metrics()
        stats = row_of(pooler.admin("SHOW STATS"), database="app")
        lists = {row["list"]: row["items"] for row in pooler.admin("SHOW LISTS")}
    app = '{database="app"}'
    assert metrics[f"pgbouncer_requests_total{app}"] == 6 == stats["total_query_count"]
    assert metrics[f"pgbouncer_received_bytes_total{app}"] == stats["total_received"] > 0
    assert metrics[f"pgbouncer_sent_bytes_total{app}"] == stats["total_sent"] > 0
    assert metrics[f"pgbouncer_query_microseconds_total{app}"] == stats["total_query_time"] > 0
    assert metrics['pgbouncer_active_clients{database="app",user="app"}'] == 2
    assert metrics['pgbouncer_waiting_clients{database="app",user="app"}'] == 0
    assert metrics['pgbouncer_active_clients{database="pgbouncer",user="pgbouncer"}'] == 1
    assert metrics[f"pgbouncer_pool_size{app}"] == 3
    assert metrics[f"pgbouncer_reserve_pool{app}"] == 0
    shown = {name: value for name, value in lists.items() if "peer" not in name}
    shown["used_clients"] = 3  # the console that asked for the list had not come yet
    assert {name: metrics[f"pgbouncer_{name}"] for name in shown} == shown


def test_without_the_old_columns_it_ends_as_with_pgbouncer(start_both):
    for pooler in start_both():
        process = start_program(pooler, clusters.free_port(), stderr=PIPE)
        _, errors = process.communicate(timeout=20)
        assert process.returncode == 1 and b"KeyError: 'total_requests'" in errors
