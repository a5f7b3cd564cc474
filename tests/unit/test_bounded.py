"""No backend takes in an answer without end, packed or not."""

import gzip
import random
import weakref
import zlib
from io import BytesIO

import pytest
import trio
from urllib3 import HTTPResponse
from urllib3.exceptions import ProtocolError

from mountfs.backends import _bounded, gcs_client, open_store
from mountfs.backends._bounded import bytes_max, unzipped
from mountfs.backends.gcs_connections import Answer
from mountfs.storage.attempts import RetryPolicy
from mountfs.storage.body import BytesBody
from mountfs.storage.errors import StoreError
from mountfs.storage.retry import RetryStorager
from mountfs.storage.vetted import VettedStorager
from tests.fakes.hostile_server import ATTACKS, MIB, HostileServer, answer, whole

SEED = 20261127
OF_HTTP = [name for name in ATTACKS if "drip" not in name]
SAMPLE = 16


PATIENCE = RetryPolicy(
    attempts=1, metadata_s=0.25, read_s=0.25, write_s=0.25, copy_s=0.25
)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Believe in short answers alone."""
    monkeypatch.setattr(_bounded, "TOLD_MAX", MIB)


@pytest.mark.parametrize(
    ("headers", "is_object", "most"),
    [
        ({}, False, _bounded.TOLD_MAX),
        ({}, True, None),
        ({"Range": "bytes=0-9"}, True, _bounded.TOLD_MAX),
        ({"range": f"bytes=5-{(1 << 30) + 4}"}, True, 1 << 30),
        ({"range": "bytes=5-"}, True, None),
    ],
)
def test_a_range_says_how_long_an_answer_is(
    headers: dict[str, str], *, is_object: bool, most: int | None
) -> None:
    """An object that is wanted whole may have any size."""
    assert bytes_max(headers, is_object=is_object) == most


def test_a_bomb_is_not_unpacked(short: None) -> None:
    """A few kilobytes that stand for gigabytes are an error before they are those."""
    machine = zlib.compressobj(wbits=31)
    bomb = b"".join(machine.compress(bytes(MIB)) for _ in range(8)) + machine.flush()

    with pytest.raises(ProtocolError, match="does not end"):
        unzipped(bomb)
    with pytest.raises(ProtocolError, match="not packed"):
        unzipped(b"plain")
    with pytest.raises(ProtocolError, match="does not end"):
        unzipped(gzip.compress(b"cut short")[:-4])
    assert unzipped(gzip.compress(b"short")) == b"short"


async def test_lies_of_a_server_of_google(short: None) -> None:
    """A sample of attacks on calls: an error or an answer, soon and bounded."""
    chance = random.Random(SEED)
    packed = gzip.compress(bytes(8 * MIB))
    attacks = {
        **{name: ATTACKS[name] for name in chance.sample(OF_HTTP, SAMPLE)},
        "a packed bomb": whole(answer(packed, "Content-Encoding: gzip")),
        "a body without end": ATTACKS["a body without end"],
        "chunks without end": ATTACKS["chunks without end"],
    }
    with HostileServer() as server:
        options = {
            "endpoint_url": server.url,
            "no_sign_request": True,
            "read_timeout_s": 1,
        }
        opened = VettedStorager(open_store("gs://bucket/pre", options))
        store = RetryStorager(opened, PATIENCE)
        for name, attack in attacks.items():
            server.attack, server.sent = attack, 0
            calls = (
                lambda: store.stat("a"),
                lambda: store.list(""),
                lambda: store.read("a", 0, 4),
                lambda: store.write("a", BytesBody(b"bytes")),
                lambda: store.delete("a"),
            )
            call = chance.choice(calls)
            try:
                with trio.fail_after(20):
                    await call()
            except StoreError:
                pass
            except BaseException as error:
                error.add_note(name)
                raise
            assert server.sent < 32 * MIB, name
        await store.close()


def test_an_answer_is_gone_with_its_last_user() -> None:
    """It holds a connection, which must not wait for a collection of garbage."""
    response = HTTPResponse(BytesIO(b"bytes"), preload_content=False)
    held = weakref.ref(_bounded.bounded(response, 10))

    assert b"".join(response.stream()) == b"bytes"
    del response
    assert held() is None


def test_what_is_not_packed_stays(short: None) -> None:
    """Only what was packed for the way is unpacked."""
    told = Answer(200, {}, b"bytes")

    assert gcs_client._unzipped(told).body == b"bytes"
