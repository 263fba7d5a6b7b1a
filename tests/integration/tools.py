"""What several test files need: work in threads, and waits for what PostgreSQL is doing."""

import threading


def in_threads(count, work):
    """Runs work(0) to work(count - 1) at the same time; raises what one of them raised."""
    failures = []

    def run(number):
        try:
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=[i], daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def wait_running(cluster, mark, count=1):
    """Waits until PostgreSQL runs `count` queries whose text contains `mark`."""
    sql = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        f" AND query LIKE '%{mark}%' AND query NOT LIKE '%pg_stat_activity%'"
    )
    cluster.primary.wait_for(sql, str(count))
