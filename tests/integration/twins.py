"""A client of a pooler and its twin, which has a connection of its own: the model is PostgreSQL.

    pair = Pair(pooler.client(), direct_client)
    pair.ask(query("SELECT 1"))          # raises Differs unless both are told the same

The twin works in a database of its own, so that locks and notifications do not meet. Whatever one is
told the other has to be told: rows, columns' names and types, tags, errors with SQLSTATE and message,
notices, reported parameters, the transaction's state. What cannot be equal is left out here:

    OIDs of tables in a RowDescription, and of types that are not PostgreSQL's own
    of errors and notices: the place in PostgreSQL's source
    of error 25006: the message, for a standby calls recovery what a primary calls read-only
    the process id in a notification
"""

import struct

FIRST_OWN_OID = 16384
COMPARED_FIELDS = (b"S", b"C", b"M", b"D")


def columns(body):
    """Of a RowDescription: names, types, sizes, modifiers and formats."""
    found, at = [], 2
    for _ in range(struct.unpack_from("!H", body)[0]):
        end = body.index(b"\0", at)
        oid, *rest = struct.unpack_from("!IhiH", body, end + 7)
        found.append((body[at:end], min(oid, FIRST_OWN_OID), rest))
        at = end + 19
    return found


def told(found, fields=COMPARED_FIELDS):
    """What a message tells, apart from what the head of this file names."""
    if found.kind in "EN":
        said = {part[:1]: part[1:] for part in found.body.split(b"\0") if part}
        if said[b"C"] == b"25006":
            fields = (b"S", b"C")
        return found.kind, [said.get(field) for field in fields]
    if found.kind == "t":
        count = struct.unpack_from("!H", found.body)[0]
        oids = struct.unpack_from(f"!{count}I", found.body, 2)
        return found.kind, [min(oid, FIRST_OWN_OID) for oid in oids]
    return found.kind, columns(found.body) if found.kind == "T" else found.body


def without_acks(heard):
    """The same, where it has an error, but for what only says that a message was taken: a statement
    that Weir prepares for an EXECUTE fails ahead of that, not amid it."""
    has_error = any(one[0] == "E" for one in heard)
    return [one for one in heard if one[0] not in "12nt"] if has_error else heard


class Differs(AssertionError):
    """What a client was told is not what its twin was told."""

    def __init__(self, mine, theirs):
        same = 0
        while mine[same : same + 1] == theirs[same : same + 1]:
            same += 1
        super().__init__(f"{mine[same : same + 3]}\nand not\n{theirs[same : same + 3]}")


class Pair:
    """A client and its twin, both wire.Clients that are logged in. `arranged` may bring what both hear
    into an order of its own."""

    def __init__(self, client, twin, fields=COMPARED_FIELDS):
        self.both = [client, twin]
        self.fields = fields
        self.arranged = list
        self.news = [[], []]
        self.status = "I"

    def hear(self, side, messages):
        """Keeps notifications, which come when they come; the rest."""
        for one in messages:
            if one.kind == "A":
                self.news[side].append(one.body[4:])
        return [told(one, self.fields) for one in messages if one.kind != "A"]

    def ask(self, sent, answers=1):
        """Both are sent the same and must be told the same, up to so many ReadyForQuery. What the
        twin heard last."""
        for one in self.both:
            one.send(sent)
        heard = [[], []]
        for _ in range(answers):
            heard = [self.hear(i, one.answer().messages) for i, one in enumerate(self.both)]
            # Parameters are reported in any order, and ahead of or behind what sets them.
            heard = [sorted(x for x in one if x[0] == "S") + [x for x in one if x[0] != "S"] for one in heard]
            self.status = heard[1][-1][1].decode()
            heard = [self.arranged(one) for one in heard]
            if heard[0] != heard[1] and without_acks(heard[0]) != without_acks(heard[1]):
                raise Differs(*heard)
        return heard[1]

    def close(self):
        for one in self.both:
            one.close()
