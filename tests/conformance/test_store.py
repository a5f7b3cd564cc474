"""What holds for a store as a whole."""

import pytest

from mountfs.storage.errors import NotFound, StoreError, Unsupported
from mountfs.storage.protocol import Storager
from tests.conformance.steps import put


async def test_capabilities_never_change(store: Storager, again: Storager) -> None:
    """Capabilities and gates are facts of the store, known before the first request."""
    before = (store.capabilities, store.features)
    await put(store, "file", b"bytes")

    assert (store.capabilities, store.features) == before
    assert again.capabilities == before[0]
    assert store.capabilities.service


async def test_limits_are_positive(store: Storager) -> None:
    """Every limit that is known leaves room for something."""
    known = store.capabilities
    limits = [
        known.key_size_max,
        known.object_size_max,
        known.write_size_max,
        known.copy_size_max,
        known.list_page_max,
        known.delete_many_max,
    ]

    assert all(limit is None or limit > 0 for limit in limits)


async def test_signed_urls_are_refused_without_the_capability(store: Storager) -> None:
    """A store without signed URLs says `Unsupported`; the others give a URL."""
    await put(store, "file", b"bytes")
    if not store.capabilities.signed_urls:
        with pytest.raises(Unsupported):
            await store.sign_read("file", expires_s=60)
        return

    url = await store.sign_read("file", expires_s=60)
    assert url.startswith(("http://", "https://"))
    assert "file" in url


async def test_errors_name_the_key(store: Storager) -> None:
    """An error says which key it is about, and is one of ours."""
    with pytest.raises(NotFound) as caught:
        await store.stat("dir/absent")

    assert isinstance(caught.value, StoreError)
    assert caught.value.key == "dir/absent"
    assert not caught.value.is_retryable
