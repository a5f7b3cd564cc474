"""The guard around every handler: each exception becomes one errno.

An exception that leaves a handler ends pyfuse3's loop, and with it the mount for
everybody. So what the file system and the stores raise becomes its errno, and anything
else, which is a bug of ours, becomes EIO and a traceback in the log.

Every request passes here, so here it is counted, and followed while somebody looks.
"""

import errno
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import trio

from mountfs.cache.activity import Activity
from mountfs.fuse.errnos import errno_of
from mountfs.fuse.meter import OperationMeter
from mountfs.storage.errors import (
    NotFound,
    ObjectTooLarge,
    Offline,
    StayedOffline,
    StoreError,
    Unsupported,
)
from mountfs.storage.tracing import Tracer

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
C = TypeVar("C", bound="Counted")

log = logging.getLogger(__name__)

_QUIET = (NotFound, ObjectTooLarge, Unsupported)
"""What tells of the program that asks, not of the mount."""

_TOLD = (Offline, StayedOffline)
"""What follows from the state of the store, of which there is a warning already."""


class Counted(Protocol):
    """Who has handlers: what they are asked is counted."""

    activity: Activity
    meter: OperationMeter
    tracer: Tracer

    def describe(self, name: str, arguments: Sequence[object]) -> tuple[str, str]:
        """Return what path a handler is called for, and what else matters."""
        ...


def handler(
    function: Callable[Concatenate[C, P], Awaitable[R]],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """Decorate a handler so that only `pyfuse3.FUSEError` leaves it."""
    name = function.__name__

    async def counted(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.activity.requests += 1
        log.debug("the kernel asks: %s", name)
        begun_s = time.monotonic()
        code = 0
        try:
            return await function(self, *args, **kwargs)
        except trio.Cancelled:
            code = errno.ECANCELED
            raise
        except pyfuse3.FUSEError as error:
            code = error.errno
            raise
        except Exception as error:
            code = _code_of(name, error)
            raise pyfuse3.FUSEError(code) from error
        finally:
            self.meter.note(name, code, time.monotonic() - begun_s)

    async def traced(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        path, detail = _described(self, name, args)
        with self.tracer.operation(name, path, detail) as told:
            try:
                return await counted(self, *args, **kwargs)
            except pyfuse3.FUSEError as error:
                told.error = error.errno
                raise

    @functools.wraps(function)
    def guarded(
        self: C, /, *args: P.args, **kwargs: P.kwargs
    ) -> Coroutine[Any, Any, R]:
        # The coroutine itself: one more around it would be paid by every request.
        called = traced if self.tracer.is_on else counted
        return called(self, *args, **kwargs)

    return guarded


def _level_of(error: StoreError) -> int:
    if isinstance(error, _QUIET):
        return logging.DEBUG
    return logging.INFO if isinstance(error, _TOLD) else logging.WARNING


def _described(
    handlers: Counted, name: str, arguments: Sequence[object]
) -> tuple[str, str]:
    try:
        return handlers.describe(name, arguments)
    except Exception:
        log.exception("a bug in mountfs: %s cannot be described", name)
        return "", ""


def _code_of(name: str, error: Exception) -> int:
    """Return the errno that an error becomes, and say in the log what it was."""
    match error:
        case StoreError():
            code = errno_of(error)
            level = _level_of(error)
            word = errno.errorcode.get(code, str(code))
            log.log(level, "%s: %s -> %s", name, error, word)
            return code
        case OSError():
            log.debug("%s: %s", name, error)
            return errno_of(error)
        case MemoryError():
            log.warning("%s: there is no memory -> ENOMEM", name)
            return errno.ENOMEM
        case _:
            log.error("%s: a bug in mountfs; the program got EIO", name, exc_info=error)
            return errno.EIO


def unanswered(
    function: Callable[Concatenate[S, P], Awaitable[None]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, None]]:
    """Decorate a handler that nobody waits for: even a FUSEError would end the loop."""

    @functools.wraps(function)
    async def guarded(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            await function(self, *args, **kwargs)
        except Exception:
            log.exception(
                "%s: a bug in mountfs; nobody waits for it", function.__name__
            )

    return guarded
