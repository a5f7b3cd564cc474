"""A proxy that fails requests as networks and services do, by script.

    with CuttingProxy(server) as proxy:
        proxy.fail("PutObject", cut_reply)          # the next PUT takes effect, unheard
        proxy.fail("GetObject", truncate(10), nth=2)

A fault strikes once, at the n-th request of its operation from now on, and is counted
in `struck`.
"""

import threading
from collections.abc import Callable
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


@dataclass(slots=True)
class _Rule:
    operation: str
    fault: Fault
    left: int


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

    def fail(self, operation: str, fault: Fault, *, nth: int = 1) -> None:
        """Strike the n-th request of an operation ("" for any) from now on."""
        with self._rules_lock:
            self._rules.append(_Rule(operation, fault, nth))

    def answer(self, request: Request) -> Reply:
        """Forward, or let a fault decide."""
        fault = self._fault_for(request.operation)
        if fault is None:
            return self.forward(request)
        return fault(request, self.forward)

    def close(self) -> None:
        """Release what is held back, and stop."""
        for rule in self._rules:
            if isinstance(rule.fault, Stall):
                rule.fault.release()
        super().close()

    def _fault_for(self, operation: str) -> Fault | None:
        with self._rules_lock:
            for rule in self._rules:
                if rule.operation not in ("", operation) or rule.left == 0:
                    continue
                rule.left -= 1
                if rule.left == 0:
                    self.struck += 1
                    return rule.fault
        return None
