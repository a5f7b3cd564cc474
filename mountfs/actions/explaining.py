"""`mountfs explain`: what a mount knows of one path, for people and for programs."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from mountfs import control, mounts
from mountfs.actions.waiting import carry_out
from mountfs.configuration.values import format_size, format_span
from mountfs.control import Request
from mountfs.errors import EXIT_FAILED, EXIT_PENDING, UsageError
from mountfs.terminal import plain

Told = Mapping[str, object]
Line = tuple[str, str]
"""A word, or nothing if it belongs to the line before, and what there is to say."""

RANGES_SHOWN = 6
NAMES_SHOWN = 10


def explain(path: str, *, as_json: bool, out: TextIO) -> int:
    """Print what is known of a path; return the exit code.

    0: it is there; 1: it is not; 75: nobody can say, now. Raises `UsageError` for
    a path that is in no mount of ours.
    """
    place = mounts.find_ours(path)
    if place is None:
        raise UsageError(f"{path} is not in a mount of mountfs: name a path in one")
    entry, below = place
    socket = control.socket_path(entry.mount_point, uid=entry.user_id)
    request = Request("explain", (below,))
    outcome = carry_out(socket, entry.mount_point, request, sys.stderr)
    if outcome.error is not None:
        if as_json:
            out.write(json.dumps({"found": None, "error": outcome.error}) + "\n")
        sys.stderr.write(f"mountfs: {plain(outcome.error)}\n")
        return EXIT_PENDING if outcome.is_passing else EXIT_FAILED
    told = {
        "mount_point": str(entry.mount_point),
        "mount_url": entry.source,
        **outcome.told,
    }
    if as_json:
        out.write(json.dumps(told, indent=2) + "\n")
    else:
        shown = os.path.join(entry.mount_point, below)  # noqa: PTH118 - of any bytes
        out.writelines(f"{line}\n" for line in render(shown, told))
    found = told.get("found")
    if found is None:
        return EXIT_PENDING
    return os.EX_OK if found else EXIT_FAILED


def render(path: str, told: Told) -> Iterator[str]:
    """Yield the lines for people."""
    if told.get("found") is True:
        yield plain(f"{path}: {_kind(told)}, {told.get('state')}")
        lines = _found(told)
    else:
        is_known = told.get("found") is False
        yield plain(
            f"{path}: there is no such file or directory"
            if is_known
            else f"{path}: nobody can say whether it is there"
        )
        lines = _missing(told)
    for word, text in lines:
        yield plain(f"  {word:<11} {text}")


def _kind(told: Told) -> str:
    kind = str(told.get("kind"))
    return {"link": "a symbolic link", "special": "a special file"}.get(
        kind, f"a {kind}"
    )


def _found(told: Told) -> Iterator[Line]:
    form, object = _part(told, "form"), _part(told, "object")
    yield from _object(object)
    gate = f" ({form['gate']})" if form.get("gate") else ""
    yield "form", f"{form.get('text')}{gate}"
    if told.get("target") is not None:
        yield "target", str(told["target"])
    yield from _links(_part(told, "hard_links"))
    yield from _attributes(_part(told, "attributes"))
    if told.get("kind") == "file":
        yield "cached", _ranges(_part(told, "cached"), "nothing")
    opened = _part(told, "open")
    if opened.get("handles"):
        yield "open", f"by {opened['handles']}, of which {opened.get('writing')} write"
    yield from _not_stored(told)
    yield from _trouble(told)


def _object(object: Told) -> Iterator[Line]:
    if not object:
        return
    yield "object", str(object.get("url"))
    yield "key", str(object.get("key") or '"" (the root)')
    if object.get("not_asked") is not None:
        yield "store", f"not asked: {object['not_asked']}"
    elif object.get("in_store") is False and object.get("key"):
        yield "store", "has no object of this key"
    size = object.get("size")
    if isinstance(size, int):
        yield "size", f"{format_size(size)} ({size} bytes)"
    if object.get("etag") is not None:
        yield "version", str(object["etag"])
    if object.get("is_newer_in_store"):
        yield "", "another client has changed it since this mount looked"
    for word, name in (
        ("modified", "modified"),
        ("type", "content_type"),
        ("class", "storage_class"),
    ):
        if object.get(name) is not None:
            yield word, str(object[name])


def _links(links: Told) -> Iterator[Line]:
    if not links:
        return
    yield "hard links", f"{links.get('count')} names; record {links.get('record')}"
    names = _items(links, "names")
    for name in names[:NAMES_SHOWN]:
        yield "", str(name)
    if len(names) > NAMES_SHOWN:
        yield "", f"and {len(names) - NAMES_SHOWN} more"


def _attributes(attributes: Told) -> Iterator[Line]:
    found = [(name, _part(attributes, name)) for name in attributes]
    width = max((len(str(each.get("value"))) for _, each in found), default=0)
    word = "attributes"
    for name, each in found:
        yield word, f"{name:<5} {each.get('value')!s:<{width}}  {each.get('source')}"
        word = ""


def _not_stored(told: Told) -> Iterator[Line]:
    dirty = _part(told, "dirty")
    if dirty:
        yield "only here", _ranges(dirty, "no bytes, but the file is changed")
        if dirty.get("from_object"):
            size = _number(dirty, "from_object")
            yield "", f"on {format_size(size)} of the object"
        if dirty.get("sent"):
            yield "", f"{format_size(_number(dirty, 'sent'))} lie in an open upload"
    for each in _items(told, "pending"):
        if isinstance(each, dict):
            yield "waiting", _waiting(each)
    if told.get("pending_below"):
        yield "below", f"{told['pending_below']} changes wait for the store"


def _waiting(entry: Told) -> str:
    parts = [str(entry.get("change"))]
    if entry.get("is_local_only"):
        parts.append("stays here until it is renamed (local-only)")
    elif entry.get("is_sending"):
        parts.append("on its way")
    elif entry.get("waits_for_another"):
        parts.append("waits for another change")
    elif entry.get("waits_for_store"):
        parts.append("waits for the store to be back")
    elif entry.get("next_try_s") is not None:
        parts.append(f"next try in {format_span(_seconds(entry, 'next_try_s'))}")
    if entry.get("attempts"):
        parts.append(f"failed {entry['attempts']} times")
    error = f": {entry['error']}" if entry.get("error") else ""
    return ", ".join(parts) + error


def _trouble(told: Told) -> Iterator[Line]:
    incident = _part(told, "incident")
    if incident:
        kept = f"; kept as {incident['kept_as']}" if incident.get("kept_as") else ""
        text = f"{_when(incident)} {incident.get('kind')}: {incident.get('text')}"
        yield "late error", f"{text}{kept}"
    error = _part(told, "error")
    if not error:
        return
    yield "last error", f"{error.get('text')}"
    named = (error.get("request"), error.get("code") or error.get("kind"))
    about = [each for each in (_when(error), *map(str, filter(None, named))) if each]
    if error.get("http_status"):
        about.append(f"HTTP {error['http_status']}")
    if error.get("request_id"):
        about.append(f"request {error['request_id']}")
    yield "", ", ".join(about)
    if error.get("needs"):
        yield "needs", str(error["needs"])


def _when(told: Told) -> str:
    """Return a time without what is less than a second."""
    return re.sub(r"\.\d+", "", str(told.get("time") or ""))


def _missing(told: Told) -> Iterator[Line]:
    yield "missing", str(told.get("missing"))
    yield "why", str(told.get("why"))
    word = "looked up"
    for url in _items(told, "looked_up"):
        yield word, str(url)
        word = ""
    yield from _not_stored(told)
    yield from _trouble(told)


def _ranges(told: Told, nothing: str) -> str:
    ranges = [each for each in _items(told, "ranges") if isinstance(each, list)]
    if not ranges:
        return nothing
    shown = ", ".join(f"{first}-{end - 1}" for first, end in ranges[:RANGES_SHOWN])
    more = _number(told, "count") - min(len(ranges), RANGES_SHOWN)
    tail = f" and {more} more" if more > 0 else ""
    return f"{format_size(_number(told, 'bytes'))}: bytes {shown}{tail}"


def _part(told: Told, name: str) -> Told:
    found = told.get(name)
    return found if isinstance(found, dict) else {}


def _items(told: Told, name: str) -> Sequence[object]:
    found = told.get(name)
    return found if isinstance(found, list) else []


def _number(told: Told, name: str) -> int:
    found = told.get(name)
    return found if isinstance(found, int) else 0


def _seconds(told: Told, name: str) -> float:
    found = told.get(name)
    return float(found) if isinstance(found, int | float) else 0.0
