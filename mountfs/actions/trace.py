"""`mountfs trace`: each operation of a mount, as it happens, with its requests."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import TextIO

from mountfs import control, mounts
from mountfs.configuration.values import format_size
from mountfs.control import Request
from mountfs.errors import UsageError
from mountfs.status import Event
from mountfs.terminal import plain

_INDENT = " " * 15


def trace(directory: str, *, as_json: bool, out: TextIO) -> int:
    """Print what the mount of a directory does, until it ends or Ctrl-C.

    Raises `UsageError` if it is in no mount of ours, or nobody answers there.
    """
    found = mounts.find_ours(directory)
    if found is None:
        raise UsageError(f"{directory} is not in a mount of mountfs")
    entry = found[0]
    socket = control.socket_path(entry.mount_point, uid=entry.user_id)
    is_told = False
    try:
        for said in control.carry_out(socket, Request("trace")):
            if isinstance(said, Event):
                is_told = True
                _show(said.told, out, as_json=as_json)
    except KeyboardInterrupt:
        return 0
    except TimeoutError as error:
        raise UsageError(
            f"the daemon of {entry.mount_point} does not answer; its log may say why"
        ) from error
    if not is_told:
        raise UsageError(
            f"nobody serves {entry.mount_point}, or its daemon is of an older version:"
            " mount it again"
        )
    return 0


def _show(told: Mapping[str, object], out: TextIO, *, as_json: bool) -> None:
    if not told:  # a sign of life
        return
    if as_json:
        out.write(f"{json.dumps(told)}\n")
    else:
        out.writelines(f"{plain(line)}\n" for line in lines_of(told))
    out.flush()


def lines_of(told: Mapping[str, object]) -> Iterator[str]:
    """Yield the lines for one operation, or for requests that belong to none."""
    if lost := _number(told, "lost"):
        yield f"({int(lost)} more, not shown: they came too fast)"
    time_ns = int(_number(told, "time_ns"))
    moment = time.strftime("%H:%M:%S", time.localtime(time_ns // 10**9))
    moment = f"{moment}.{time_ns // 10**6 % 1000:03}"
    requests = told.get("requests", [])
    assert isinstance(requests, list)
    if not told.get("operation"):
        after = f", begun by {int(_number(told, 'number'))}" if told["number"] else ""
        for each in requests:
            yield f"{moment}   (behind{after}) {_request(each)}"
        return
    yield f"{moment}  {_operation(told)}"
    for each in requests:
        yield f"{_INDENT} > {_request(each)}"


def _operation(told: Mapping[str, object]) -> str:
    detail = f" {told['detail']}" if told.get("detail") else ""
    error = f" -> {told['error']}" if told.get("error") else ""
    retries = int(_number(told, "retries"))
    again = f", {retries} retries" if retries else ""
    return (
        f"{int(_number(told, 'number'))} {told['operation']} /{told['path']}{detail}"
        f"{error} ({_milliseconds(told)}{again})"
    )


def _request(told: Mapping[str, object]) -> str:
    status = int(_number(told, "status")) or "no answer"
    sizes = [
        f"{format_size(int(_number(told, field)))} {way}"
        for field, way in (("sent_bytes", "sent"), ("received_bytes", "received"))
        if _number(told, field)
    ]
    known = f"id {told['request_id']}" if told.get("request_id") else ""
    reason = f"{told['reason']}" if told.get("reason") != "foreground" else ""
    rest = ", ".join(filter(None, (_milliseconds(told), *sizes, reason, known)))
    return f"{told['request']} {status} ({rest})"


def _milliseconds(told: Mapping[str, object]) -> str:
    return f"{_number(told, 'seconds') * 1000:.1f} ms"


def _number(told: Mapping[str, object], name: str) -> float:
    value = told.get(name, 0)
    return value if isinstance(value, int | float) else 0
