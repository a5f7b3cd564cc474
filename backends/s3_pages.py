"""A page of a listing on the wire: the XML of a thousand entries.

A parser of XML takes longer for a page than all the rest of its request. So entries
that are written exactly as services write them are taken out with one expression, and
only what is left, with a mark where they were, is given to a parser. It decides: an
entry that is written in another way is read by it; and if the marks turn out to be
anywhere but in the page itself, so is all of the page.
"""

import datetime
import functools
import re
import secrets
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from xml.etree import ElementTree

Reply = dict[str, Any]
Row = tuple[str, str, str, str, str]
"""An entry, as texts: key, time, ETag without quotes, size, storage class."""
ROW = ("Key", "LastModified", "ETag", "Size", "StorageClass")

_DECLARES = re.compile(rb"<!\s*(?:DOCTYPE|ENTITY)", re.IGNORECASE)
"""What no service sends, and a few bytes of which can stand for gigabytes."""
_TEXT = "[^<>&\x00-\x1f\ufffe\uffff]*+"
"""What stands in XML for itself, and is allowed in it."""
_QUOTE = r"(?:&quot;|&#34;|\")"
_FIELDS: Mapping[str, str] = {
    "Key": f"({_TEXT})",
    "LastModified": f"({_TEXT})",
    "ETag": f"{_QUOTE}([0-9A-Za-z-]*+){_QUOTE}",
    "Size": "([0-9]++)",
    "StorageClass": f"({_TEXT})",
}
_OTHERS = (
    f"(?:<ChecksumAlgorithm>{_TEXT}</ChecksumAlgorithm>"
    f"|<ChecksumType>{_TEXT}</ChecksumType>"
    f"|<Owner>(?:<ID>{_TEXT}</ID>)?(?:<DisplayName>{_TEXT}</DisplayName>)?</Owner>)*+"
)
"""What else an entry may hold; nobody asks for it."""
MARK = f"TakenOut{secrets.token_hex(8)}"
"""An element that no page has."""
_START = re.compile(
    r"""(?:<\?xml version=["']1\.0["'](?: encoding=["']utf-8["'])?\?>)?\s*<\w""",
    re.IGNORECASE | re.ASCII,
)
"""How XML begins that is to be read as UTF-8."""


def read_page(body: bytes) -> tuple["ElementTree.Element[str]", list[Row]]:
    """Return the XML of a page, which may lack entries, and all of its entries.

    Raises `ParseError` for what is no XML, `ValueError` for an entry without a key.
    """
    rows, rest, marks = _split(body)
    root = ElementTree.XML(rest)
    if marks != sum(each.tag.endswith(MARK) for each in root):
        rows, root = [], ElementTree.XML(body)
    return root, [*rows, *parsed_rows(root)]


def parsed_rows(root: "ElementTree.Element[str]") -> list[Row]:
    """Return the entries of a page that a parser has read. Raises `ValueError`."""
    entries = (each for each in root if local_name(each.tag) == "Contents")
    return [_row(texts_of(each)) for each in entries]


def rows_of(reply: Mapping[str, Any]) -> Iterable[Row]:
    """Return the entries of a page, whoever has sent the request for it."""
    if "Rows" in reply:
        rows: list[Row] = reply["Rows"]
        return rows
    return map(_row, reply.get("Contents", ()))


def _row(entry: Mapping[str, Any]) -> Row:
    if "Key" not in entry:
        raise ValueError("an entry has no key")
    key, modified, etag, size, storage_class = (entry.get(name, "") for name in ROW)
    if isinstance(modified, datetime.datetime):
        modified = modified.isoformat()
    return key, modified, etag.strip('"'), str(size), storage_class


def _split(body: bytes) -> tuple[list[Row], bytes | str, int]:
    """Take out the entries whose fields come in the order of the first one's.

    Returns them, what is left, and how many marks stand in it.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return [], body, 0
    first = text[text.find("<Contents>") :].partition("</Contents>")[0]
    order = tuple(name for name in re.findall(r"<(\w+)>", first) if name in _FIELDS)
    if not _START.match(text) or sorted(order) != sorted(ROW):
        return [], body, 0
    pieces = _entry_pattern(order).split(text)
    step = len(ROW) + 1
    columns = [pieces[1 + order.index(name) :: step] for name in ROW]
    head, *between = pieces[::step]
    between[:-1] = filter(None, between[:-1])
    rest = f"<{MARK}/>".join([head, *between])
    return list(zip(*columns, strict=True)), rest, len(between)


@functools.lru_cache(maxsize=8)
def _entry_pattern(order: tuple[str, ...]) -> "re.Pattern[str]":
    """Return an expression for entries whose fields come in an order."""
    fields = [f"<{name}>{_FIELDS[name]}</{name}>{_OTHERS}" for name in order]
    return re.compile(f"<Contents>{_OTHERS}{''.join(fields)}</Contents>")


def declares(body: bytes) -> bool:
    """Whether XML makes names for more of it."""
    # Of these three each is slower than the one before it.
    return b"!" in body and b"<!" in body and _DECLARES.search(body) is not None


def local_name(tag: str) -> str:
    """Return the name of an element without its namespace."""
    return tag.rpartition("}")[2]


def texts_of(element: "ElementTree.Element[str]") -> dict[str, str]:
    """Return the texts of what is directly in an element."""
    return {local_name(each.tag): each.text or "" for each in element}


@functools.lru_cache(maxsize=256)
def moment(text: str) -> datetime.datetime:
    """Return the moment that XML tells, or a header. Raises `ValueError`."""
    is_of_xml = text[:4].isdecimal()
    read = datetime.datetime.fromisoformat if is_of_xml else parsedate_to_datetime
    found = read(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)
