"""The strict fake of Google Cloud Storage, as Google's own client sees it."""

from collections.abc import Callable

import pytest
from google.api_core import exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.fakes.gcs_fixtures import GCS_BUCKET
from tests.fakes.gcs_server import GcsServer


@pytest.fixture
def bucket(gcs_server: GcsServer) -> storage.Bucket:
    """The bucket of the fake by the SDK."""
    client = storage.Client(
        project="project",
        credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]  # google-auth has few types
        client_options={"api_endpoint": gcs_server.endpoint_url},
    )
    return client.bucket(GCS_BUCKET)


def test_objects_are_written_read_listed_and_deleted(bucket: storage.Bucket) -> None:
    """With their metadata, and with a checksum that the SDK compares."""
    blob = bucket.blob("dir/ü")
    blob.metadata = {"a": "ü"}
    blob.upload_from_string(b"bytes", content_type="text/x", checksum="crc32c")
    bucket.blob("large").upload_from_string(bytes(9 << 20), checksum="crc32c")

    found = bucket.get_blob("dir/ü")
    assert (found.size, found.metadata, found.content_type) == (5, {"a": "ü"}, "text/x")
    assert found.download_as_bytes() == b"bytes"
    assert found.download_as_bytes(start=1, end=2) == b"yt"
    listing = bucket.client.list_blobs(bucket, delimiter="/")
    assert [each.name for each in listing] == ["large"]
    assert listing.prefixes == {"dir/"}
    found.delete()
    assert bucket.get_blob("dir/ü") is None


def test_preconditions_hold(bucket: storage.Bucket) -> None:
    """Of uploads, deletions, patches, rewrites and composes."""
    blob = bucket.blob("file")
    blob.upload_from_string(b"one", if_generation_match=0)
    first = blob.generation
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string(b"two", if_generation_match=0)
    blob.upload_from_string(b"two", if_generation_match=first)
    stale, target = {"if_generation_match": first}, bucket.blob("target")
    refusals: list[Callable[[], object]] = [
        lambda: blob.delete(**stale),
        lambda: blob.patch(**stale),
        lambda: target.compose([blob], **stale),
        lambda: target.rewrite(blob, if_source_generation_match=first),
    ]
    for refused in refusals:
        with pytest.raises(exceptions.PreconditionFailed):
            refused()


def test_copies_composes_and_patches_are_made(bucket: storage.Bucket) -> None:
    """A patch moves the metageneration alone; a rewrite ends by its tokens."""
    one, two = bucket.blob("one"), bucket.blob("two")
    one.upload_from_string(b"1")
    two.upload_from_string(b"2")
    both = bucket.blob("both")
    both.content_type = "text/x"
    both.compose([one, two])
    assert both.download_as_bytes() == b"12"
    assert both.md5_hash is None

    generation = both.generation
    both.metadata = {"a": "1", "b": "2"}
    both.patch()
    both.metadata = {"a": None}
    both.patch()
    both.reload()
    assert (both.generation, both.metageneration) == (generation, 3)
    assert both.metadata == {"b": "2"}
    copy = bucket.blob("copy")
    token, done, size = copy.rewrite(both)
    assert (token, done, size) == (None, 2, 2)
    assert copy.download_as_bytes() == b"12"
