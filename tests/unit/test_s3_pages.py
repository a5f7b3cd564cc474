"""Entries that are taken out of a page with one expression are those a parser reads."""

import os
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mountfs.backends.s3_pages import (
    MARK,
    local_name,
    parsed_rows,
    read_page,
    texts_of,
)

NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
TIME = "<LastModified>2026-11-26T21:00:00.000Z</LastModified>"
OWNER = "<Owner><ID>1</ID><DisplayName>a</DisplayName></Owner>"
CHECKSUM = "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>X</ChecksumType>"
ORDERS = {
    "aws": "{key}{time}{etag}" + CHECKSUM + "{size}{kept}",
    "seaweedfs": "{key}{etag}{size}" + OWNER + "{kept}{time}",
    "ceph": "{key}{time}{etag}{size}{kept}" + OWNER,
}
OTHERS = {
    "spaced": "\n {key}\n{time} {etag}{size}{kept}",
    "no class": "{key}{time}{etag}{size}",
    "no time": "{key}{etag}{size}{kept}",
    "more": "{key}{time}{etag}{size}{kept}<RestoreStatus>no</RestoreStatus>",
    "twice": "{key}{key}{time}{etag}{size}{kept}",
    "comment": "{key}<!-- {time} -->{time}{etag}{size}{kept}",
    "no key": "{time}{etag}{size}{kept}",
    "nested": "{key}<Owner>{key}</Owner>{time}{etag}{size}{kept}",
    "attribute": '{key}{time}{etag}<Size a="b">1</Size>{kept}',
}
WRAPS = [
    "{}",
    "<Owner>{}</Owner>",
    "<!--{}-->",
    "<?what {}?>",
    "<Prefix><![CDATA[{}]]></Prefix>",
    "<TakenOut/>{}",
    "<Owner>{}<TakenOut/></Owner>",
    "<Contents>{}</Contents>",
    "<Prefix>{}",
]
STARTS = [
    "",
    '<?xml version="1.0" encoding="UTF-8"?>\n',
    "<?xml version='1.0'?>",
    '<?xml version="1.0" encoding="ISO-8859-1"?>',
]
TEXTS = ["a", "a%20b", "é", "a&amp;b", "&#10;", "]]>", "&", "\x00", "\r\n", "\ufffe"]
ETAGS = ['"a"', "&quot;a-1&quot;", "&#34;a&#34;", "a", "", "&lt;"]
SIZES = ["0", "12", "-1", "x", ""]
ROOTS = [f"ListBucketResult {NAMESPACE}", "Contents", "Error"]


def mostly(usual: str, others: list[str]) -> st.SearchStrategy[str]:
    """Draw the usual text, or one of others a time in ten."""
    return st.integers(0, 9).flatmap(
        lambda number: st.just(usual) if number else st.sampled_from(others)
    )


@st.composite
def pages(draw: st.DrawFn) -> bytes:
    """Draw a page, which may be odd in any way, and may be cut."""
    usual = ORDERS[draw(st.sampled_from(sorted(ORDERS)))]
    pieces: list[str] = []
    for _ in range(draw(st.integers(0, 6))):
        style = draw(mostly(usual, [*ORDERS.values(), *OTHERS.values()]))
        key = draw(st.text(max_size=8).map(escape) | mostly("a", TEXTS))
        inner = style.format(
            key=f"<Key>{key}</Key>",
            time=TIME,
            etag=f"<ETag>{draw(mostly('&quot;a&quot;', ETAGS))}</ETag>",
            size=f"<Size>{draw(mostly('1', SIZES))}</Size>",
            kept=f"<StorageClass>{draw(mostly('STANDARD', TEXTS))}</StorageClass>",
        )
        wrap = draw(mostly("{}", WRAPS))
        pieces.append(wrap.format(f"<Contents>{inner}</Contents>"))
    told = "<Name>b</Name><Rows>x</Rows><IsTruncated>false</IsTruncated>"
    pieces.insert(draw(st.integers(0, len(pieces))), told)
    root = draw(mostly(ROOTS[0], ROOTS))
    start, end = draw(mostly(STARTS[1], STARTS)), root.partition(" ")[0]
    page = f"{start}<{root}>{''.join(pieces)}</{end}>".encode("utf-8", "replace")
    is_cut = draw(st.integers(0, 9)) == 0
    return page[: draw(st.integers(0, len(page)))] if is_cut else page


def told(body: bytes, *, is_parsed: bool) -> object:
    """Return what a page tells, or why it does not."""
    try:
        if is_parsed:
            root = ElementTree.XML(body)
            rows = parsed_rows(root)
        else:
            root, rows = read_page(body)
    except (ElementTree.ParseError, ValueError) as error:
        return type(error)
    others = [
        (each.tag, each.text, texts_of(each))
        for each in root
        if local_name(each.tag) != "Contents" and not each.tag.endswith(MARK)
    ]
    return root.tag, sorted(rows), others


def entry(key: str, style: str) -> str:
    """Return an entry as a service writes it."""
    inner = ORDERS[style].format(
        key=f"<Key>{key}</Key>",
        time=TIME,
        etag="<ETag>&quot;a&quot;</ETag>",
        size="<Size>1</Size>",
        kept="<StorageClass>STANDARD</StorageClass>",
    )
    return f"<Contents>{inner}</Contents>"


def page(*pieces: str, start: str = STARTS[1]) -> bytes:
    """Return a page."""
    return f"{start}<{ROOTS[0]}>{''.join(pieces)}</ListBucketResult>".encode()


AWS = entry("a", "aws")


@settings(max_examples=400 if "AT_LENGTH" in os.environ else 100)
@given(pages())
@example(page(entry("é", "aws"), start=STARTS[3]))
@example(page(f"<!--{AWS}-->", AWS))
@example(page(f"<Owner>{AWS}</Owner>", AWS))
@example(page(f"<Owner>{AWS}</Owner><TakenOut/>"))
@example(page(AWS, entry("a]]>", "aws")))
def test_a_page_tells_what_a_parser_reads(body: bytes) -> None:
    """However it is written, and whatever is wrong with it."""
    assert told(body, is_parsed=False) == told(body, is_parsed=True)


@pytest.mark.parametrize("style", sorted(ORDERS))
def test_the_parser_sees_no_usual_entry(style: str) -> None:
    """It would take longer for them than all the rest of a request."""
    odd = entry("a&amp;b", style)
    entries = "".join(entry(f"d/{number}", style) for number in range(500))

    root, rows = read_page(page(entries, odd, entries))

    assert len(rows) == 1001
    assert rows[7] == ("d/7", "2026-11-26T21:00:00.000Z", "a", "1", "STANDARD")
    assert [local_name(each.tag) for each in root] == [MARK, "Contents", MARK]
