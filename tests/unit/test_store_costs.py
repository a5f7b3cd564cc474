"""What one operation costs on a store, counted; the page of stores has the numbers."""

import importlib.util
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType

from mountfs.backends import open_store
from mountfs.backends.gcs_appends import APPEND_MIN
from mountfs.storage.body import BytesBody
from mountfs.storage.protocol import Storager
from mountfs.storage.types import Features, Metadata
from mountfs.storage.virtual import VirtualStorager
from tests.fakes.dropbox_fixtures import options_of
from tests.fakes.dropbox_server import DropboxServer
from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_server import GcsServer
from tests.fakes.strict_shim import StrictShim

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "stores.py"
LARGE = bytes(max(APPEND_MIN, 6 << 20))
MIB = 1 << 20
Deed = Callable[[Storager], Awaitable[object]]


def script() -> ModuleType:
    """Load the script."""
    spec = importlib.util.spec_from_file_location("stores", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date() -> None:
    """It was written by the script from what the stores say of themselves."""
    stores = script()
    assert stores.page() == stores.PAGE.read_text(), "run scripts/stores.py"


async def _append(store: Storager) -> None:
    base = await store.stat("large")
    append = await store.create_append("large", base=base)
    await store.commit_append(await store.write_append(append, BytesBody(b"tail")))


async def _multipart(store: Storager) -> None:
    upload = await store.create_multipart("parts")
    limits = store.capabilities.multipart
    assert limits is not None
    part = BytesBody(bytes(max(limits.part_size_min, MIB)))
    parts = [await store.write_part(upload, number, part) for number in range(2)]
    await store.complete_multipart(upload, parts)


async def _set_metadata(store: Storager) -> None:
    found = await store.stat("file")
    await store.set_metadata(found, Metadata(user={"name": "value"}))


DEEDS: dict[str, Deed] = {
    "stat": lambda store: store.stat("file"),
    "list": lambda store: store.list(""),
    "read": lambda store: store.read("file"),
    "write": lambda store: store.write("new", BytesBody(b"bytes")),
    "copy": lambda store: store.copy("file", "copy"),
    "move": lambda store: store.move("copy", "moved"),
    "make_dir": lambda store: store.make_dir("dir/"),
    "make_link": lambda store: store.make_link("link", "target"),
    "set_metadata": _set_metadata,
    "append": _append,
    "multipart": _multipart,
    "delete": lambda store: store.delete("moved"),
    "delete_many": lambda store: store.delete_many(["new", "link"]),
}
ASKED_FIRST = {"append", "set_metadata"}
"""What begins with a stat that is not counted."""


async def counted(
    store: Storager, clear: Callable[[], None], counts: Callable[[], Counter[str]]
) -> dict[str, int]:
    """Carry out each operation once and count its requests."""
    virtual = VirtualStorager(store, Features.all())
    await virtual.write("file", BytesBody(b"bytes"))
    await virtual.write("large", BytesBody(LARGE))
    if virtual.capabilities.multipart is not None:  # what is looked for once, first
        await virtual.abort_multipart(await virtual.create_multipart("parts"))
    found: dict[str, int] = {}
    for name, deed in DEEDS.items():
        if name == "multipart" and virtual.capabilities.multipart is None:
            continue
        await virtual.list("")
        clear()
        await deed(virtual)
        found[name] = sum(counts().values()) - (name in ASKED_FIRST)
    await virtual.close()
    return found


def expected(column: int) -> dict[str, int]:
    """Return the column of a store in the script's table."""
    costs: dict[str, tuple[int, ...]] = script().COSTS
    return {name: row[column] for name, row in costs.items() if row[column]}


async def test_costs_on_s3(moto_shim: StrictShim, moto_bucket: str) -> None:
    """As the page says."""
    store = open_store(
        f"s3://{moto_bucket}/pre", {"endpoint_url": moto_shim.server.endpoint_url}
    )
    assert await counted(store, moto_shim.clear, moto_shim.counts) == expected(0)


async def test_costs_on_google_cloud_storage(gcs_server: GcsServer) -> None:
    """As the page says."""
    options = {"endpoint_url": gcs_server.endpoint_url, "no_sign_request": True}
    store = open_store(f"gs://{GCS_BUCKET}/pre", options)

    def counts() -> Counter[str]:
        found = Counter(entry.operation for entry in gcs_server.requests())
        if "batch" in found:  # what is in it is logged, too
            del found["objects.delete"]
        return found

    assert await counted(store, gcs_server.clear, counts) == expected(1)


async def test_costs_on_dropbox(dropbox_server: DropboxServer) -> None:
    """As the page says."""
    store = open_store("dropbox:///pre", options_of(dropbox_server))

    def counts() -> Counter[str]:
        found = dropbox_server.counts
        del found["files/delete_batch/check"]  # as many as it takes
        return found

    assert await counted(store, dropbox_server.routes.clear, counts) == expected(2)
