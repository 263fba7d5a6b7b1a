"""What scripts/bench measures with: CPU and memory of processes, pgbench, COPY, idle clients.

CPU time is that of a process with its threads, its children and those of them that have ended,
from /proc/PID/stat, as the difference of two snapshots. The kernel shows it in steps of 10 ms; for
the pooler the finer account of its threads in schedstat is used, unless the two disagree by more
than such steps explain, as they do when a thread or child has ended. A load gives a dictionary:

    rate        units per second in the window (transactions, logins, MB)
    latency_ms  as pgbench says it; for logins the time to connect; None for COPY
    cpu         CPU seconds of the pooler for as many units as the caller asks for; None if direct
    busy        share of one CPU that the pooler used
    replicas    share of the standbys in the CPU time of all PostgreSQL servers
    others      share of the whole machine that went to processes which are not of this run, or
                was taken by its host: a neighbour on another CPU slows this one down as well
"""

import os
import re
import socket
import struct
import subprocess
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
# Before and behind the window of a pgbench run: logins, first plans, and the leave-taking.
WARM_UP = 1
COOL_DOWN = 1
PATIENCE = 60
# How far an account in ticks may lie off: user and system time are cut off at both ends.
TICKS_OFF = 4
ANSWER_BYTES_MAX = 1 << 16
READY = b"Z\0\0\0\5I"
PROGRESS = re.compile(r"progress: ([\d.]+) s, ([\d.]+) tps")


class Failed(Exception):
    """A measurement that did not come about; its text says why."""


def processes():
    """Each process id with its parent's and the CPU seconds of itself and its dead children."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        found[int(name)] = (int(fields[1]), sum(map(int, fields[11:15])) / TICKS)
    return found


def family(table, ancestor):
    """The ids of a process and all its descendants."""
    children = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found = [ancestor] if ancestor in table else []
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def thread_seconds(pid):
    """CPU seconds of the threads that a process has now, to the nanosecond; None if not known."""
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as line:
                total += int(line.read().split()[0])
    except (OSError, IndexError):
        return None
    return total / 1e9


def busy_seconds():
    """How long all CPUs have worked, or were taken away by the host, since the start."""
    with open("/proc/stat", encoding="ascii") as lines:
        fields = lines.readline().split()[1:9]
    user, nice, system, _, _, irq, softirq, stolen = map(int, fields)
    return (user + nice + system + irq + softirq + stolen) / TICKS


class Snapshot:
    """All CPU accounts at one moment; that of `pooler`, a process id or None, in detail."""

    def __init__(self, pooler):
        self.when = time.monotonic()
        self.threads = None if pooler is None else thread_seconds(pooler)
        self.table = processes()
        self.busy = busy_seconds()

    def cpu(self, pid):
        return sum(self.table[one][1] for one in family(self.table, pid))


class Window:
    """What happened between two snapshots. `nodes` are the servers, the primary first."""

    def __init__(self, begin, end, pooler, nodes):
        def spent(pid):
            return end.cpu(pid) - begin.cpu(pid)

        self.seconds = end.when - begin.when
        self.pooler = None if pooler is None else spent(pooler)
        if begin.threads is not None and end.threads is not None:
            fine = end.threads - begin.threads
            if abs(fine - self.pooler) <= TICKS_OFF / TICKS:
                self.pooler = fine
        servers = [spent(node.process.pid) for node in nodes]
        foreign = end.busy - begin.busy - spent(os.getpid())
        self.replicas = sum(servers[1:]) / max(sum(servers), 1 / TICKS)
        self.others = min(max(0.0, foreign / (self.seconds * os.cpu_count())), 1.0)

    def record(self, rate, units):
        """The record of a load which went on at `rate`, with CPU seconds for each `units`."""
        busy = None if self.pooler is None else self.pooler / self.seconds
        return {
            "rate": rate,
            "latency_ms": None,
            "cpu": None if busy is None else busy / rate * units,
            "busy": busy,
            "replicas": self.replicas,
            "others": self.others,
        }


def memory_kb(pid):
    """RSS and PSS of a process and its descendants, in kB."""
    sums = {"Rss": 0, "Pss": 0}
    for one in family(processes(), pid):
        with open(f"/proc/{one}/smaps_rollup", encoding="ascii") as lines:
            for line in lines:
                name, _, rest = line.partition(":")
                if name in sums:
                    sums[name] += int(rest.split()[0])
    return sums["Rss"], sums["Pss"]


class Progress:
    """Reads pgbench's progress and takes the two snapshots between which is measured."""

    def __init__(self, pooler, seconds):
        self.pooler = pooler
        self.until = WARM_UP + seconds
        self.begin = self.end = None
        self.first = self.last = 0.0
        self.done = 0.0
        self.complaints = []

    def line(self, text):
        found = PROGRESS.match(text)
        if found is None:
            self.complaints.append(text.strip())
            return
        at, rate = float(found[1]), float(found[2])
        if self.begin is None:
            self.begin, self.first = Snapshot(self.pooler), at
        elif self.end is None:
            self.done += rate * (at - self.last)
            if at > self.until - 0.5:
                self.end = Snapshot(self.pooler)
                self.rate = self.done / (at - self.first)
        self.last = at


def pgbench(cluster, target, arguments, seconds, units):
    """Runs pgbench and measures `seconds` out of its middle; raises Failed with its words."""
    length = WARM_UP + seconds + COOL_DOWN
    command = [target.program("pgbench"), "-n", "-S", "--random-seed=1", "-P", "1"]
    command += ["-T", str(length), *arguments, *target.options, target.database]
    process = cluster.guarded(
        command,
        variables=target.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(length + PATIENCE, process.kill)
    watchdog.start()
    progress = Progress(target.pid, seconds)
    try:
        for line in process.stderr:
            progress.line(line)
        said = process.stdout.read()
        status = process.wait()
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
    errors = [line for line in progress.complaints if "error" in line]
    if status != 0 or errors:
        raise Failed(errors[0] if errors else f"pgbench ended with status {status}")
    if progress.end is None or progress.done <= 0:
        raise Failed("pgbench did nothing in the seconds that count: starved by others?")
    window = Window(progress.begin, progress.end, target.pid, cluster.nodes)
    record = window.record(progress.rate, units)
    word = "average connection time" if "-C" in arguments else "latency average"
    record["latency_ms"] = float(re.search(rf"{word} = ([\d.]+) ms", said)[1])
    return record


def copy_out(cluster, target, megabytes):
    """COPY TO STDOUT of rows of 100 bytes into psql; the rate in MB/s, CPU for one GB."""
    rows = megabytes * 10_000
    query = (
        "COPY (SELECT repeat('w', 99) FROM (SELECT generate_series(1, %d)) AS rows) TO STDOUT"
        % rows
    )
    command = [target.program("psql"), "-X", "-q", "-c", query, *target.options, target.database]
    begin = Snapshot(target.pid)
    process = cluster.guarded(
        command,
        variables=target.variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        _, complaint = process.communicate(timeout=PATIENCE + megabytes / 10)
    except subprocess.TimeoutExpired:
        raise Failed("COPY: psql did not end") from None
    finally:
        process.kill()
        process.wait()
    window = Window(begin, Snapshot(target.pid), target.pid, cluster.nodes)
    if process.returncode != 0:
        raise Failed(f"COPY: {complaint.strip() or process.returncode}")
    return window.record(megabytes / window.seconds, 1000)


def log_in(address, user, database):
    """A socket that is logged in without a password and then says nothing."""
    pairs = {"user": user, "database": database, "application_name": "idle"}
    body = "".join(f"{key}\0{value}\0" for key, value in pairs.items()).encode() + b"\0"
    connection = socket.create_connection(address, 20)
    connection.sendall(struct.pack("!II", len(body) + 8, 3 << 16) + body)
    answer = b""
    while not answer.endswith(READY):
        got = connection.recv(4096)
        answer += got
        if not got or answer[:1] == b"E" or len(answer) > ANSWER_BYTES_MAX:
            connection.close()
            raise Failed(f"login refused: {answer[5:200]!r}")
    return connection


def idle_clients(target, count):
    """Memory of the pooler for each of `count` clients that have logged in and rest, in kB."""
    clients = []
    try:
        clients.append(log_in(target.address, target.user, target.database))
        time.sleep(1)
        before = memory_kb(target.pid)
        while len(clients) < count + 1:
            clients.append(log_in(target.address, target.user, target.database))
        time.sleep(1.5)
        after = memory_kb(target.pid)
    except OSError as error:
        raise Failed(f"with {len(clients)} clients: {error}") from error
    finally:
        for one in clients:
            one.close()
    rss, pss = ((b - a) / count for a, b in zip(before, after))
    return {"rss_kb": rss, "pss_kb": pss, "rss_total_kb": after[0], "clients_in": count}
