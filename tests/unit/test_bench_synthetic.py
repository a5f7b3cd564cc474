"""The made-up bucket answers as a store does."""

from collections.abc import Iterator

import pytest

from bench import synthetic
from bench.bare import BareClient, Refused
from bench.synthetic import GIB, Bucket


@pytest.fixture
def client() -> Iterator[BareClient]:
    bucket = Bucket(directories=3, files=700, flat=5, huge_gib=2)
    server = synthetic.serve(bucket)
    client = BareClient(f"http://127.0.0.1:{server.server_address[1]}", "bucket")
    yield client
    client.close()
    server.shutdown()
    server.server_close()


def test_all_keys_are_listed_over_pages(client: BareClient) -> None:
    """2 100 keys are three pages, none twice and none missing."""
    found = client.keys("many/")

    assert len(found) == 2100
    assert "many/d0002/f0699" in found


def test_common_prefixes_fill_pages_too() -> None:
    """A page with a delimiter goes on where it ended."""
    bucket = Bucket(directories=3, files=2, flat=0, huge_gib=0)
    _, first, after = bucket.page("many/", "/", "", 2)
    _, second, rest = bucket.page("many/", "/", after, 2)

    assert first + second == [f"many/d000{n}/" for n in range(3)]
    assert rest == ""


def test_what_is_written_is_there_and_what_is_deleted_is_not(
    client: BareClient,
) -> None:
    """Put, copy, delete one, delete many."""
    client.put("flat/new", b"bytes")
    client.copy("flat/new", "flat/copy")
    client.delete("flat/f000000")
    client.delete_many(["flat/f000001", "flat/new"])

    assert client.get("flat/copy", 1, 3) == b"yte"
    assert sorted(client.keys("flat/")) == [
        "flat/copy",
        *(f"flat/f00000{number}" for number in (2, 3, 4)),
    ]
    with pytest.raises(Refused, match="404"):
        client.get("flat/new")


def test_an_edit_of_a_huge_object_is_parts_copied_and_one_sent(
    client: BareClient,
) -> None:
    """Only the sent part has bytes; around it are the zeros that were there."""
    middle = memoryview(b"x" * 4096)
    client.upload(
        "huge",
        [
            lambda up, n: client.copy_part("huge", up, n, "huge", 0, GIB),
            lambda up, n: client.put_part("huge", up, n, middle),
            lambda up, n: client.copy_part("huge", up, n, "huge", GIB, GIB),
        ],
    )

    assert client.keys("huge") == {"huge": 2 * GIB + 4096}
    assert client.get("huge", GIB - 1, 4098) == b"\0" + bytes(middle) + b"\0"


def test_tags_of_a_huge_object_are_not_its_bytes(client: BareClient) -> None:
    """A question about an object is no request for a gigabyte."""
    answer = client._ask("GET", "huge", {"tagging": ""})

    assert answer.body == b"<Tagging><TagSet/></Tagging>"
    with pytest.raises(Refused, match="501"):
        client._ask("GET", "huge", {"acl": ""})
