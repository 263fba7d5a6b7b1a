"""Fixtures for all integration tests: one cluster for the whole run, a pooler for each test.

Run as `/usr/bin/python3 -m pytest tests/integration`, with the environment of pooler.py. Marks:

    timeout(seconds)   how long a test may take in all; 60 without it, more under sanitizers
    release_only       measures time or memory, or is too long for a sanitizer's build
    weir_only          what Debian's PgBouncer does not have, or does worse
    one_worker         not so with several workers, between which a server may be given up
"""

import contextlib
import os
import signal

import pytest

import cluster as clusters
import pooler as poolers

DEFAULT_TIMEOUT = 60


def pytest_configure(config):
    config.addinivalue_line("markers", "timeout(seconds): how long the test may take")
    config.addinivalue_line("markers", "release_only: not run against sanitizer builds")
    config.addinivalue_line("markers", "weir_only: not run against PgBouncer")
    config.addinivalue_line("markers", "one_worker: not run with several workers")


def pytest_report_header():
    return f"pooler: {poolers.BINARY}, workers: {poolers.WORKERS}"


def pytest_collection_modifyitems(config, items):
    """Leaves out what does not apply to the binary under test."""
    unwanted = set()
    if poolers.SANITIZED:
        unwanted.add("release_only")
    if poolers.WORKERS > 1:
        unwanted.add("one_worker")
    if poolers.KIND != "weir":
        unwanted.add("weir_only")
    dropped = [one for one in items if any(one.get_closest_marker(mark) for mark in unwanted)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [one for one in items if one not in dropped]


@contextlib.contextmanager
def time_limit(item):
    mark = item.get_closest_marker("timeout")
    seconds = (mark.args[0] if mark else DEFAULT_TIMEOUT) * poolers.PATIENCE

    def too_late(*_):
        pytest.fail(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_setup(item):
    with time_limit(item):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    with time_limit(item):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item):
    with time_limit(item):
        yield


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """What failed shows the end of its poolers' logs, which go with the cluster."""
    made = yield
    for one in poolers.STARTED:
        if made.get_result().failed and os.path.exists(one.log):
            made.get_result().sections.append((one.log, one.log_text()[-6000:]))
    if call.when == "teardown":
        poolers.STARTED.clear()


@pytest.fixture(scope="session")
def cluster():
    """A primary and two standbys; a test that changes nodes puts them back."""
    with clusters.Cluster() as made:
        yield made


@pytest.fixture(scope="session")
def numbers():
    """Counts the poolers of this run, so that each has a folder of its own."""
    return iter(range(1_000_000))


@pytest.fixture
def start_pooler(cluster, numbers):
    """Starts poolers with the arguments of pooler.Pooler; each must end cleanly."""
    with contextlib.ExitStack() as ends:

        def start(settings=None, **more):
            folder = os.path.join(cluster.folder, f"pooler{next(numbers)}")
            made = poolers.Pooler(cluster, folder, settings, **more)
            ends.callback(made.stop)
            return made

        yield start


@pytest.fixture
def start_both(cluster, numbers):
    """Starts Weir and Debian's PgBouncer with the same arguments; the two, in that order."""
    with contextlib.ExitStack() as ends:

        def start(settings=None, **more):
            made = []
            for kind in (poolers.Pooler, poolers.PgBouncer):
                folder = os.path.join(cluster.folder, f"pooler{next(numbers)}")
                made.append(kind(cluster, folder, settings, **more))
                ends.callback(made[-1].stop)
            return made

        yield start


@pytest.fixture
def pooler(start_pooler):
    """A pooler in transaction mode with trust logins."""
    return start_pooler()


@pytest.fixture(params=["session", "transaction"])
def either_mode(start_pooler, request):
    """A pooler in session mode, then one in transaction mode."""
    return start_pooler({"pool_mode": request.param})


@pytest.fixture
def make_table(cluster):
    """Makes tables on the primary that everybody may use; they are dropped after the test."""
    with contextlib.ExitStack() as ends:

        def make(name, columns):
            cluster.primary.sql(
                f"DROP TABLE IF EXISTS {name}; CREATE TABLE {name} ({columns});"
                f" GRANT ALL ON {name} TO PUBLIC; GRANT ALL ON ALL SEQUENCES IN SCHEMA public"
                " TO PUBLIC"
            )
            ends.callback(cluster.primary.sql, f"DROP TABLE {name}")

        yield make
