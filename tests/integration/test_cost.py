"""What routing costs: instructions for a transaction, counted by callgrind, routing on against off.

Counted are Weir's own, not the kernel's, and of statements whose shape is known: the same number on
every machine and beside any other load, unlike CPU time, for which there is scripts/bench.
"""

import os
import re
import shutil
import tempfile

import pytest

import cluster as clusters
import pooler as poolers
from pooler import Pooler
from routed import PROBING, entry_of
from wire import SYNC, bind, execute, parse

pytestmark = [pytest.mark.weir_only, pytest.mark.release_only, pytest.mark.timeout(120)]

FEW, MANY = 100, 1500
BOUND = "SELECT n FROM generate_series(1, 1) n WHERE n = $1"


class Counted(Pooler):
    """A pooler whose instructions are counted; `instructions` once it has stopped."""

    def start(self):
        binary = os.path.join(self.cluster.folder, "counted-" + os.path.basename(poolers.BINARY))
        if not os.path.exists(binary):
            shutil.copy(poolers.BINARY, binary)
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.folder}/counts"]
        with open(self.log, "ab") as log:
            self.process = self.cluster.guarded([*command, binary, self.ini], stdout=log, stderr=log)

    @property
    def instructions(self):
        return int(re.search(r"Collected : (\d+)", self.log_text())[1])


def simple(client):
    return client.query("SELECT n FROM generate_series(1, 1) n WHERE n = 1")


def extended(client):
    return client.ask(parse(BOUND), bind([1]), execute(), SYNC)


def prepared(client):
    return client.ask(bind([1], "s"), execute(), SYNC)


# A thousand are about a quarter of a microsecond; a transaction takes ten and more, most of them in
# the kernel. Found are 1000 to 1850: how many depends on which node the probes say it is, and when.
MORE_AT_MOST = {simple: 2000, extended: 2300, prepared: 2200}


def instructions(cluster, routing, works):
    """All that a pooler executes which serves so many of each of `works`."""
    databases = {"app": entry_of([cluster.standbys[0], cluster.primary], routing=routing)}
    settings = {**PROBING, "probe_interval": "20", "probe_timeout": "10", "workers": 1}
    settings.update({"max_prepared_statements": 100, "http_listen": None})
    with tempfile.TemporaryDirectory(dir=cluster.folder) as folder:
        clusters.give_away(folder)
        made = Counted(cluster, f"{folder}/pooler", settings, databases=databases, wait=False)
        try:
            made.wait_ready(60)
            with made.client() as client:
                client.ask(parse(BOUND, "s"), SYNC)
                for work, count in works.items():
                    for _ in range(count):
                        assert work(client).value == "1"
        finally:
            made.stop()
        return made.instructions


def test_instructions_for_a_transaction(cluster):
    too_many = []
    warm = dict.fromkeys(MORE_AT_MOST, FEW)
    base = {routing: instructions(cluster, routing, warm) for routing in ("off", "read_write")}
    for work, most in MORE_AT_MOST.items():
        off, on = (
            (instructions(cluster, routing, {**warm, work: MANY}) - base[routing]) / (MANY - FEW)
            for routing in ("off", "read_write")
        )
        print(f"{work.__name__}: {off:.0f} without routing, {on - off:.0f} more with it")
        if on - off > most:
            too_many.append((work.__name__, off, on))
    assert not too_many
