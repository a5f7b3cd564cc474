"""The guard around every handler: each exception becomes one errno.

An exception that leaves a handler ends pyfuse3's loop, and with it the mount for
everybody. So what the file system and the stores raise becomes its errno, and anything
else, which is a bug of ours, becomes EIO and a traceback in the log.
"""

import errno
import functools
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3

from mountfs.cache.activity import Activity
from mountfs.fuse.errnos import errno_of
from mountfs.storage.errors import (
    NotFound,
    ObjectTooLarge,
    StoreError,
    Unsupported,
)

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
C = TypeVar("C", bound="Counted")

log = logging.getLogger(__name__)

_QUIET = (NotFound, ObjectTooLarge, Unsupported)
"""What tells of the program that asks, not of the mount."""


class Counted(Protocol):
    """Who has handlers: what they are asked is counted."""

    activity: Activity


def handler(
    function: Callable[Concatenate[C, P], Awaitable[R]],
) -> Callable[Concatenate[C, P], Coroutine[Any, Any, R]]:
    """Decorate a handler so that only `pyfuse3.FUSEError` leaves it."""

    @functools.wraps(function)
    async def guarded(self: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        self.activity.requests += 1
        log.debug("the kernel asks: %s", function.__name__)
        try:
            return await function(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except StoreError as error:
            code = errno_of(error)
            level = logging.DEBUG if isinstance(error, _QUIET) else logging.WARNING
            name = errno.errorcode.get(code, str(code))
            log.log(level, "%s: %s -> %s", function.__name__, error, name)
            raise pyfuse3.FUSEError(code) from error
        except OSError as error:
            log.debug("%s: %s", function.__name__, error)
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except MemoryError as error:
            log.warning("%s: there is no memory -> ENOMEM", function.__name__)
            raise pyfuse3.FUSEError(errno.ENOMEM) from error
        except Exception as error:
            log.exception(
                "%s: a bug in mountfs; the program got EIO", function.__name__
            )
            raise pyfuse3.FUSEError(errno.EIO) from error

    return guarded


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
