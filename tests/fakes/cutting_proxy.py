"""A proxy that fails requests as networks and services do, by script.

    with CuttingProxy(server) as proxy:
        proxy.fail("PutObject", cut_reply)          # the next PUT takes effect, unheard
        proxy.fail("GetObject", truncate(10), nth=2)

A fault strikes once, at the n-th request of its operation from now on, and is counted
in `struck`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.fakes.http_proxy import HttpProxy, Reply, Request, error_reply
from tests.fakes.s3_servers import S3Server

Forward = Callable[[Request], Reply]
Fault = Callable[[Request, Forward], Reply]


def cut_reply(request: Request, forward: Forward) -> Reply:
    """Carry the request out, and close the connection without a word."""
    reply = forward(request)
    reply.read_all()
    return Reply(reply.status, cut_after=-1)


def cut_request(request: Request, forward: Forward) -> Reply:
    """Close the connection and carry nothing out."""
    return Reply(0, cut_after=-1)


def answer(status: int, code: str, **headers: str) -> Fault:
    """Answer an error and carry nothing out."""

    def fault(request: Request, forward: Forward) -> Reply:
        reply = error_reply(status, code)
        reply.headers += [(k.replace("_", "-"), v) for k, v in headers.items()]
        return reply

    return fault


def answer_after(status: int, code: str) -> Fault:
    """Carry the request out, and answer an error all the same."""

    def fault(request: Request, forward: Forward) -> Reply:
        forward(request).read_all()
        return error_reply(status, code)

    return fault


def truncate(size: int) -> Fault:
    """Close the connection after `size` bytes of the body."""

    def fault(request: Request, forward: Forward) -> Reply:
        reply = forward(request)
        reply.read_all()
        reply.cut_after = size
        return reply

    return fault


def corrupt(request: Request, forward: Forward) -> Reply:
    """Flip a bit in the body of the reply."""
    reply = forward(request)
    body = bytearray(reply.read_all())
    body[len(body) // 2] ^= 1
    reply.body = bytes(body)
    return reply


def corrupt_request(request: Request, forward: Forward) -> Reply:
    """Flip a bit in the body of the request, and carry that out."""
    body = bytearray(request.body())
    body[len(body) // 2] ^= 1
    request.replace_body(bytes(body))
    return forward(request)


class Stall:
    """Holds the reply back until `release`, or until the proxy is closed."""

    def __init__(self) -> None:
        self._released = threading.Event()

    def release(self) -> None:
        """Let the reply go."""
        self._released.set()

    def __call__(self, request: Request, forward: Forward) -> Reply:
        """Carry the request out, and wait."""
        reply = forward(request)
        reply.read_all()
        self._released.wait(timeout=60)
        return reply


class StallBody(Stall):
    """Sends the first bytes of a body, and the rest when it is released."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size = size
        self.has_begun = threading.Event()

    def __call__(self, request: Request, forward: Forward) -> Reply:
        """Carry the request out, and stop in the middle of the answer."""
        reply = forward(request)
        reply.read_all()
        reply.paced = self._pieces
        return reply

    def _pieces(self, body: bytes) -> Iterator[bytes]:
        yield body[: self._size]
        self.has_begun.set()
        self._released.wait(timeout=60)
        yield body[self._size :]


def slow(pieces: int, pause_s: float) -> Fault:
    """Send the body in so many pieces, with a pause before each."""

    def fault(request: Request, forward: Forward) -> Reply:
        reply = forward(request)
        reply.read_all()
        reply.paced = in_pieces
        return reply

    def in_pieces(body: bytes) -> Iterator[bytes]:
        size = -(-len(body) // pieces) or 1
        for start in range(0, len(body), size):
            time.sleep(pause_s)
            yield body[start : start + size]

    return fault


@dataclass(slots=True)
class _Rule:
    operation: str
    fault: Fault
    left: int
    key: str = ""
    is_lasting: bool = False


class CuttingProxy(HttpProxy):
    """Forwards everything that no fault is set for."""

    def __init__(self, upstream: S3Server) -> None:
        self._rules: list[_Rule] = []
        self._rules_lock = threading.Lock()
        self.struck = 0
        super().__init__(upstream)

    @property
    def server(self) -> S3Server:
        """The server as seen through this proxy."""
        return self.upstream.at(self.endpoint_url, "cut")

    def fail(
        self,
        operation: str,
        fault: Fault,
        *,
        nth: int = 1,
        key: str = "",
        is_lasting: bool = False,
    ) -> None:
        """Strike the n-th request of an operation ("" for any) from now on.

        Only keys that end in `key` count. A lasting fault strikes every later one as
        well, until `mend`.
        """
        with self._rules_lock:
            self._rules.append(_Rule(operation, fault, nth, key, is_lasting))

    def fail_only(self, operation: str, fault: Fault, *, key: str = "") -> None:
        """Let a lasting fault take the place of every other, with no gap between."""
        with self._rules_lock:
            rules, self._rules = self._rules, [_Rule(operation, fault, 1, key, True)]
        _release(rules)

    def mend(self) -> None:
        """Take back every fault, and let go what is held."""
        with self._rules_lock:
            rules, self._rules = self._rules, []
        _release(rules)

    def forget(self) -> None:
        """Drop every fault that has not struck yet."""
        with self._rules_lock:
            for rule in self._rules:
                rule.left = 0

    def answer(self, request: Request) -> Reply:
        """Forward, or let a fault decide."""
        fault = self._fault_for(request)
        if fault is None:
            return self.forward(request)
        return fault(request, self.forward)

    def close(self) -> None:
        """Release what is held back, and stop."""
        _release(self._rules)
        super().close()

    def _fault_for(self, request: Request) -> Fault | None:
        with self._rules_lock:
            for rule in self._rules:
                if rule.operation not in ("", request.operation):
                    continue
                if not request.key.endswith(rule.key) or rule.left == 0:
                    continue
                rule.left -= 1
                if rule.left == 0:
                    rule.left = rule.is_lasting
                    self.struck += 1
                    return rule.fault
        return None


def _release(rules: list[_Rule]) -> None:
    for rule in rules:
        if isinstance(rule.fault, Stall):
            rule.fault.release()
