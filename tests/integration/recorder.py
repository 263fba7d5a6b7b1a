"""A man in the middle between the pooler and a server, who writes down what servers are asked."""

import contextlib
import socket
import struct
import threading

from pooler import PATIENCE


class Recorder(threading.Thread):
    """Forwards connections to `node`. `asked` is what the pooler has sent behind its login, as
    (type, body). With `hold` set to a number, answers are kept until so many requests have come, or
    a while has passed: then `was_late` is set."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node = node
        self.asked = []
        self.hold = 0
        self.was_late = False
        self.changed = threading.Condition()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def run(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                other = socket.create_connection((self.node.host, self.node.port))
                for work in (self.requests, self.answers):
                    threading.Thread(target=work, args=[one, other], daemon=True).start()

    def requests(self, one, other):
        with contextlib.suppress(OSError, struct.error), one.makefile("rb") as stream:
            head = stream.read(4)
            other.sendall(head + stream.read(struct.unpack("!I", head)[0] - 4))
            while head := stream.read(5):
                body = stream.read(struct.unpack_from("!I", head, 1)[0] - 4)
                with self.changed:
                    self.asked.append((head[:1].decode(), body))
                    self.changed.notify_all()
                other.sendall(head + body)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def answers(self, one, other):
        with contextlib.suppress(OSError):
            while data := other.recv(65536):
                with self.changed:
                    enough = self.changed.wait_for(
                        lambda: len(self.asked) >= self.hold, timeout=PATIENCE
                    )
                self.was_late = self.was_late or not enough
                one.sendall(data)
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)

    def take(self):
        """What was asked since the last time."""
        with self.changed:
            asked, self.asked = self.asked, []
        return asked
