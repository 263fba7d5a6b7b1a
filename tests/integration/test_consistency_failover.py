"""What concurrent sessions are told while the primary changes, and whether it keeps the promise.

The clients and the check are those of test_consistency.py. Commits wait for one of the standbys, and
the one that has received the most is promoted: so what was acknowledged before the change has to be
seen after it, whichever node answers.
"""

import threading
import time

import pytest

from failover import ChangingCluster, start_over
from pooler import PATIENCE
from races import CLEAN, SCHEMA, race
from routed import Watch

pytestmark = [pytest.mark.weir_only, pytest.mark.timeout(90)]

SECONDS = 5 * PATIENCE
# What a statement that was under way may be answered; its connection may be closed with that.
IN_FLIGHT = {"57P01", "57P02", "08006", "08007", "lost"}


@pytest.fixture(scope="module")
def cluster():
    with ChangingCluster() as made:
        yield made


def crashes(cluster):
    cluster.primary.kill()
    cluster.promote(cluster.most_advanced())


def is_replaced(cluster):
    """On purpose: it is shut down first."""
    cluster.primary.stop()
    cluster.promote(cluster.most_advanced())


@pytest.mark.parametrize("what,consistency", [(crashes, "database"), (is_replaced, "database"), (crashes, "session")])
def test_the_promise_is_kept(start_pooler, cluster, what, consistency):
    old = cluster.primary
    old.sql(SCHEMA)
    cluster.wait_replayed()
    routed = start_over(start_pooler, cluster, {"read_consistency": consistency})
    watch = Watch(routed)
    watch.settle()
    failures = []

    def change():
        try:
            time.sleep(SECONDS / 5)
            what(cluster)
        except Exception as failure:
            failures.append(failure)

    changer = threading.Thread(target=change, daemon=True)
    changer.start()
    began = time.monotonic()
    told = race(routed, 1, SECONDS, lazy=False)
    changer.join()
    assert not failures, failures
    late = [one for one in told.history.writes if one.ended is not None and one.began > began + 0.6 * SECONDS]
    print(f"{len(told.history.writes)} writes, {len(late)} of them late; {len(told.history.reads)} reads;")
    print(f"writes: {told.failed_writes}; reads: {told.failed_reads}; transactions: {told.lost_transactions}")
    assert not told.history.violations(consistency)[:3]
    assert len(late) > 20 / PATIENCE
    assert {code for code, _ in told.failed_writes + told.failed_reads} <= IN_FLIGHT
    cluster.rejoin(old)
    cluster.primary.sql(CLEAN)
