"""What concurrent sessions did and were told, and whether it keeps a promise.

    history = History()
    with history.write(session, key, value):     # begins now; acknowledged when the block ends
        client.query(...)
    history.read(session, sent_at, {key: value}) # what one query showed of all registers
    history.violations("database")               # [] if the promise was kept

A register has one writer, who writes 1, 2, 3, ...: what a read shows tells which writes it has seen. A
write whose answer was lost has no time of its end: it may be seen or not. Times are those of the client
and taken to the pooler's advantage: a write counts from its answer's arrival on, a read from before it
was sent. A tally is a register that everybody adds to; its writer learns the value from the answer.
"""

import bisect
import contextlib
import threading
import time
from dataclasses import dataclass


@dataclass
class Write:
    session: int
    key: str
    value: int | None
    began: float
    ended: float | None
    # Made past Weir, straight on the primary.
    is_past: bool = False


@dataclass
class Read:
    session: int
    began: float
    ended: float
    values: dict
    way: str


class History:
    def __init__(self):
        self.writes = []
        self.reads = []
        self.lock = threading.Lock()

    @contextlib.contextmanager
    def write(self, session, key, value, is_past=False):
        """Within, the write is sent and its answer read. Gives the Write, whose value a tally sets."""
        made = Write(session, key, value, time.monotonic(), None, is_past)
        with self.lock:
            self.writes.append(made)
        yield made
        made.ended = time.monotonic()

    def read(self, session, began, values, way=""):
        made = Read(session, began, time.monotonic(), values, way)
        with self.lock:
            self.reads.append(made)

    def violations(self, promise):
        """What broke `promise`: eventual, session, database or cluster; texts, in no order."""
        began, reached = self.began(), Reached(self.writes, promise)
        found = []
        for one in self.reads:
            for key, value in one.values.items():
                if value != 0 and began.get((key, value), one.ended + 1) > one.ended:
                    found.append(f"{key} = {value} was not written: {one}")
                least = reached.before(key, one)
                if least is not None and least.value > value:
                    found.append(f"{key} = {value} misses {least}: {one}")
        return found

    def began(self):
        """When each value was first sent; of a tally whose answer was lost nobody knows the value."""
        unknown = {one.key for one in self.writes if one.value is None}
        made = {(one.key, one.value): one.began for one in self.writes}
        for one in self.reads:
            made.update({pair: 0 for pair in one.values.items() if pair[0] in unknown})
        return made

    def backwards(self):
        """Reads that show less than an earlier one of the same session did, of what was acknowledged
        by then: a commit that is under way may be seen on a standby before the primary shows it."""
        found, seen = [], {}
        acknowledged = {
            (one.key, one.value): one.ended for one in self.writes if one.ended is not None
        }
        for one in sorted(self.reads, key=lambda read: read.began):
            for key, value in one.values.items():
                before = seen.get((one.session, key), 0)
                if value < before and acknowledged[key, before] < one.began:
                    found.append(f"{key} = {value} after {before}: {one}")
                if (key, value) in acknowledged:
                    seen[one.session, key] = max(before, value)
        return found


class Reached:
    """How far each register was acknowledged at a time, of what counts for a promise."""

    def __init__(self, writes, promise):
        self.is_own = promise == "session"
        self.steps = {}
        if promise == "eventual":
            return
        done = [one for one in writes if one.ended is not None and one.value is not None]
        for one in sorted(done, key=lambda write: write.ended):
            if one.is_past and promise != "cluster":
                continue
            times, tops = self.steps.setdefault(self.place(one.key, one.session), ([], []))
            times.append(one.ended)
            tops.append(one if not tops or one.value > tops[-1].value else tops[-1])

    def place(self, key, session):
        return (key, session) if self.is_own else key

    def before(self, key, read):
        """The write with the greatest value that was acknowledged before the read was sent, or None."""
        times, tops = self.steps.get(self.place(key, read.session), ((), ()))
        at = bisect.bisect_right(times, read.began)
        return tops[at - 1] if at > 0 else None
