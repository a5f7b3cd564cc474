"""Whatever a handler raises, the mount lives on and the program gets one errno."""

import errno
import logging

import pyfuse3
import pytest

from mountfs.cache.activity import Activity
from mountfs.fuse.guard import handler, unanswered
from mountfs.fuse.meter import OperationMeter
from mountfs.storage.errors import (
    NotFound,
    ObjectTooLarge,
    Offline,
    QuotaExceeded,
    Throttled,
)
from mountfs.storage.tracing import Tracer


class Handlers:
    """Handlers that raise what they are given."""

    activity = Activity()
    meter = OperationMeter()
    tracer = Tracer()

    def describe(self, name: str, arguments: object) -> tuple[str, str]:
        return "", ""

    @handler
    async def answered(self, error: BaseException) -> None:
        raise error

    @unanswered
    async def forgotten(self, error: BaseException) -> None:
        raise error


class Undescribed(Handlers):
    """Handlers that nobody can say anything of."""

    def describe(self, name: str, arguments: object) -> tuple[str, str]:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound(), errno.ENOENT),
        (QuotaExceeded(), errno.ENOSPC),
        (Throttled(), errno.EIO),
        (OSError(errno.ENOTEMPTY, "not empty"), errno.ENOTEMPTY),
        (OSError(errno.ENOSYS, "would be for ever"), errno.EOPNOTSUPP),
        (OSError("without a number"), errno.EIO),
        (pyfuse3.FUSEError(errno.EPERM), errno.EPERM),
        (KeyError("a bug"), errno.EIO),
        (MemoryError(), errno.ENOMEM),
    ],
)
async def test_every_exception_becomes_one_errno(
    error: BaseException, code: int
) -> None:
    """Only a FUSEError leaves a handler; anything else would end the mount."""
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Handlers().answered(error)

    assert caught.value.errno == code


async def test_what_a_program_asks_too_much_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A size that no object can have is the program's matter."""
    with caplog.at_level(logging.INFO), pytest.raises(pyfuse3.FUSEError) as caught:
        await Handlers().answered(ObjectTooLarge("10^15 bytes"))

    assert caught.value.errno == errno.EFBIG
    assert not caplog.records


async def test_who_looks_cannot_end_the_mount(caplog: pytest.LogCaptureFixture) -> None:
    """An operation that cannot be described is carried out, and told without a path."""
    handlers = Undescribed()

    with Handlers.tracer.watching() as events:
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await handlers.answered(NotFound())
        told = events.receive_nowait()

    assert caught.value.errno == told.error == errno.ENOENT
    assert (told.operation, told.path) == ("answered", "")
    assert "cannot be described" in caplog.text


async def test_what_follows_from_an_outage_is_no_warning_of_its_own(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That the store is out of reach is said once, not for each call that fails."""
    with caplog.at_level(logging.INFO, "mountfs"), pytest.raises(pyfuse3.FUSEError):
        await Handlers().answered(Offline("the store does not answer"))

    (record,) = caplog.records
    assert record.levelno == logging.INFO


async def test_a_bug_is_told_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What becomes EIO for the program is a traceback for us."""
    with pytest.raises(pyfuse3.FUSEError):
        await Handlers().answered(KeyError("a bug"))

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


@pytest.mark.parametrize("error", [KeyError("a bug"), pyfuse3.FUSEError(errno.EIO)])
async def test_nothing_leaves_a_handler_that_nobody_waits_for(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """FORGET has no answer: its failure is logged, and the mount goes on."""
    await Handlers().forgotten(error)

    assert len(caplog.records) == 1
