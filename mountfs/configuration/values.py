"""How the text of each kind of setting becomes a value: sizes, times, modes, names.

Each reader takes a text and returns a plain value, or raises `BadValue` with what would
have been taken. Beside them stand the ways back, from values to words for people.
"""

import dataclasses
import difflib
import grp
import ipaddress
import math
import pwd
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from mountfs.configuration.prices import Prices, read_prices
from mountfs.storage.types import Features

MINIMUM_CACHE_SIZE = 16 << 20
MINIMUM_NAMES = 1000
MINIMUM_RATE = 10 << 10
MAXIMUM_TTL_S = 365 * 86400.0
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class BadValue(ValueError):
    """A value that an option does not take; the text says what it takes."""


def read_switch(text: str) -> bool:
    """Return whether a switch is on."""
    match text.lower():
        case "" | "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
        case _:
            raise BadValue("true or false")


def read_size(text: str) -> int:
    """Return a number of bytes; the units are powers of 1024."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.I)
    if found is None:
        raise BadValue("a size such as 512M, 10G or 1T")
    return int(float(found[1]) * UNITS[found[2].upper()])


def read_cache_size(text: str) -> int:
    """Return the size of the cache in bytes, which has a lower bound."""
    size = read_size(text)
    if size < MINIMUM_CACHE_SIZE:
        raise BadValue(f"a size of at least {format_size(MINIMUM_CACHE_SIZE)}")
    return size


def read_rate(text: str) -> int:
    """Return a number of bytes a second; 0 is no limit, and a few bytes are none."""
    rate = read_size(re.sub(r"/s$", "", text.strip()))
    if 0 < rate < MINIMUM_RATE:
        raise BadValue(f"at least {format_size(MINIMUM_RATE)} a second, or 0 for any")
    return rate


def read_requests(text: str) -> int:
    """Return a number of requests a second; 0 is no limit."""
    found = re.fullmatch(r"\d{1,5}", text.strip())
    if found is None:
        raise BadValue("a number of requests from 1 to 99999, or 0 for any")
    return int(found[0])


def read_names_max(text: str) -> int:
    """Return a number of names, which has a lower bound."""
    found = re.fullmatch(r"\d+", text.strip())
    if found is None or int(found[0]) < MINIMUM_NAMES:
        raise BadValue(f"a number of at least {MINIMUM_NAMES}")
    return int(found[0])


def read_ttl(text: str) -> float:
    """Return a duration in seconds; `500ms`, `2s`, `5m` and `1h` are understood."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", text.strip())
    if found is None:
        raise BadValue("a time such as 1s, 500ms or 5m")
    seconds = (
        float(found[1]) * {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
    )
    if seconds > MAXIMUM_TTL_S:
        raise BadValue("a time of at most a year")
    return seconds


def read_mode(text: str) -> int:
    """Return permission bits given in octal."""
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text):
        raise BadValue("an octal number such as 644 or 022")
    mode = int(text.removeprefix("0o"), 8)
    if mode > 0o777:
        raise BadValue("permission bits between 000 and 777")
    return mode


def read_user(text: str) -> int:
    """Return a user number, given as such or by name."""
    if text.isascii() and text.isdigit():
        return _checked_id(int(text))
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise BadValue("a user's number, or the name of a user of this host") from None


def read_group(text: str) -> int:
    """Return a group number, given as such or by name."""
    if text.isascii() and text.isdigit():
        return _checked_id(int(text))
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError:
        raise BadValue("a group's number, or the name of a group here") from None


def _checked_id(number: int) -> int:
    if number > 0xFFFF_FFFE:
        raise BadValue("a number below 4294967295")
    return number


def read_path(text: str) -> Path:
    """Return an absolute path; `~` is the home directory."""
    if not text or "\0" in text:
        raise BadValue("a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise BadValue("a path whose ~user exists") from None


def read_endpoint(text: str) -> str:
    """Return the URL of an S3 service."""
    if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", text):
        raise BadValue("a URL such as https://s3.example.org, without credentials")
    return text


def read_kms_key(text: str) -> str:
    """Return the full name of a key of Google's Cloud KMS."""
    pattern = r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+"
    if not re.fullmatch(pattern, text):
        raise BadValue("projects/P/locations/L/keyRings/R/cryptoKeys/K")
    return text


def read_events(text: str) -> str:
    """Return what names a subscription of Google's Pub/Sub or a queue of SQS."""
    queue = r"sqs://([a-z0-9-]+/[0-9]{12}/)?[A-Za-z0-9_.-]+"
    if not re.fullmatch(rf"projects/[^/]+/subscriptions/[^/]+|{queue}", text):
        raise BadValue(
            "sqs://QUEUE or sqs://REGION/ACCOUNT/QUEUE, for gs://"
            " projects/P/subscriptions/S"
        )
    return text


def read_word(text: str) -> str:
    """Return text that is neither empty nor broken over lines."""
    if not text or not text.isprintable():
        raise BadValue("a word")
    return text


def read_account(text: str) -> str:
    """Return the number of an AWS account."""
    if not re.fullmatch(r"\d{12}", text):
        raise BadValue("an account number of twelve digits")
    return text


def read_port(text: str) -> int:
    """Return a TCP port."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16):
        raise BadValue("a TCP port, 1 to 65535")
    return int(text)


def read_address(text: str) -> str:
    """Return the IP address of an interface."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise BadValue("an IP address, such as 127.0.0.1 or ::1") from None


def read_request_prices(text: str) -> Prices:
    """Return what a service charges for requests."""
    try:
        return read_prices(text)
    except ValueError:
        raise BadValue(
            "dollars for a thousand requests, such as write=0.005,read=0.0004"
        ) from None


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader that takes these words alone."""

    def read(text: str) -> str:
        if text not in choices:
            raise BadValue(
                " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
            )
        return text

    return read


def read_virtual(text: str) -> Features:
    """Return the gates that are on: `all`, `none` or a list of their names.

    The prefix `virtual_` may be left out. Names are separated by commas, or by
    colons where a comma already means something, as in `-o`.
    """
    if text in ("all", "none"):
        return Features.all() if text == "all" else Features()
    gates = {gate.name for gate in dataclasses.fields(Features)}
    on: dict[str, bool] = {}
    for word in re.split(r"[,:\s]+", text.strip(",: ")):
        name = word.replace("-", "_")
        full = name if name in gates else f"virtual_{name}"
        if full not in gates:
            short = {gate.removeprefix("virtual_") for gate in gates}
            hint = suggestion(name, gates | short | {"all", "none"}) or (
                "; they are " + ", ".join(sorted(gates))
            )
            raise BadValue(f"all, none or a list of gates: {word!r} is none{hint}")
        on[full] = True
    return Features(**on)


def read_patterns(text: str) -> tuple[str, ...]:
    """Return patterns of the shell for the names of files.

    Separated by commas, or by colons where a comma already means something. No empty
    one, which no name matches, and no slash, which is in none.
    """
    patterns = tuple(filter(None, (each.strip() for each in re.split("[,:]", text))))
    if any("/" in each or "\0" in each for each in patterns):
        raise BadValue("patterns for names, such as *.swp,*.tmp, without a /")
    return patterns


def format_size(size: int) -> str:
    """Return a size for people: `12 MiB`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        scale = UNITS[unit[0]]
        if size >= scale:
            return f"{size / scale:.1f}".removesuffix(".0") + f" {unit}"
    return f"{size} B"


def format_span(seconds: float) -> str:
    """Return a span of time for people: `40 s`, `3:20 min`, `2:05 h`."""
    whole = math.ceil(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean X?" if something known is near, else nothing."""
    near = nearest(word, known)
    return f"; did you mean {near}?" if near else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return what is known and so near that it may be what was meant."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else None
