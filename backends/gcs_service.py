"""What is rare: the buckets of an account, and signed URLs, by google-cloud-storage."""

import contextlib
import datetime
from collections.abc import Iterator

import google.api_core.exceptions as api
from google.cloud import storage

from mountfs.backends.gcs_client import GcsClient
from mountfs.backends.gcs_errors import STATUSES
from mountfs.backends.gcs_keys import KeySpace
from mountfs.backends.gcs_options import GcsOptions
from mountfs.storage.errors import (
    AlreadyExists,
    BucketNotFound,
    DirectoryNotEmpty,
    InvalidRequest,
    ReadOnlyStore,
    ServiceFailed,
    Unsupported,
)

_ANY_PROJECT = "mountfs"
"""An emulator asks for a project, and does not mind which."""


class GcsService:
    """One account at one endpoint."""

    def __init__(self, options: GcsOptions) -> None:
        self._options = options
        self._client = GcsClient(options)

    async def list_buckets(self) -> tuple[str, ...]:
        """List the buckets of the project until all have come."""

        def names() -> tuple[str, ...]:
            with _translated():
                buckets = sdk_client(self._client, self._options).list_buckets(
                    retry=None
                )
                return tuple(bucket.name for bucket in buckets)

        return await self._client.run(names)

    async def create_bucket(self, name: str) -> None:
        """Create a bucket; one that is ours already is success."""
        self._check_write()

        def create() -> None:
            client = sdk_client(self._client, self._options)
            try:
                with _translated():
                    client.create_bucket(name, retry=None)
            except AlreadyExists:
                with _translated():
                    ours = {each.name for each in client.list_buckets(retry=None)}
                if name not in ours:
                    raise

        await self._client.run(create)

    async def delete_bucket(self, name: str) -> None:
        """Delete a bucket. Raises `BucketNotFound`, `DirectoryNotEmpty`."""
        self._check_write()

        def delete() -> None:
            client = sdk_client(self._client, self._options)
            with _translated():
                try:
                    client.bucket(name).delete(client=client, retry=None)
                except (api.Conflict, api.PreconditionFailed) as error:
                    raise DirectoryNotEmpty("the bucket is not empty") from error
                except api.NotFound as error:
                    raise BucketNotFound("there is no such bucket") from error

        await self._client.run(delete)

    async def close(self) -> None:
        """Close the idle connections."""
        await self._client.close()

    def _check_write(self) -> None:
        if self._options.read_only:
            raise ReadOnlyStore("the store was opened read-only")


def sdk_client(client: GcsClient, options: GcsOptions) -> storage.Client:
    """Return a client of the SDK with our credentials. Call it in a thread."""
    project = options.project or options.user_project
    if options.no_sign_request:
        project = project or _ANY_PROJECT
    return storage.Client(
        project=project,
        credentials=client.credentials,
        client_options={"api_endpoint": options.endpoint_url},
    )


def signed_url(
    client: GcsClient,
    options: GcsOptions,
    keys: KeySpace,
    key: str,
    expires_s: int,
) -> str:
    """Sign a URL that reads an object. Call it in a thread.

    Raises `Unsupported` if the credentials hold no key to sign with.
    """
    sdk = sdk_client(client, options)
    bucket = sdk.bucket(keys.bucket, user_project=options.user_project)
    blob = bucket.blob(keys.full(key))
    try:
        url: str = blob.generate_signed_url(
            expiration=datetime.timedelta(seconds=expires_s), version="v4", method="GET"
        )
    except AttributeError as error:  # so the SDK says that there is no private key
        raise Unsupported(
            "these credentials cannot sign: a service account with a key can", key=key
        ) from error
    except ValueError as error:
        raise InvalidRequest(str(error), key=key) from error
    return url


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except api.Conflict as error:
        raise AlreadyExists(error.message, code="409") from error
    except api.GoogleAPICallError as error:
        meaning = STATUSES.get(int(error.code or 500), ServiceFailed)
        raise meaning(error.message, code=str(error.code)) from error
