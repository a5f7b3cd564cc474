"""Dropbox: a folder of an account as a store.

Folders are directories of their own; files and folders keep metadata in property
groups, which listings carry. What Dropbox cannot do (links, appends) is
`VirtualStorager`'s, or refused. The parts:

    dropbox_options     the URL and its options
    dropbox_tokens      who we are
    dropbox_client      the seam to the SDK
    dropbox_answers     answers that are none
    dropbox_names       keys as Dropbox names, and back
    dropbox_objects     answers as objects
    dropbox_properties  metadata as property groups
    dropbox_listing     pages in byte order
    dropbox_reads       the bytes that were asked for
    dropbox_uploads     the bytes of new files
    dropbox_multipart   files whose parts come one by one
    dropbox_deletions   deletion, by revision
    dropbox_changes     moves, copies, folders

Invariants: nothing is written beside the name that was asked for (no autorename); what
has a name of another case of letters is neither found nor replaced; a delete of a file
names its revision, so that it never takes a folder or a newer file with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from dropbox import Dropbox, files

from mountfs.backends import _checks
from mountfs.backends._lacking import NoAppend
from mountfs.backends.dropbox_changes import Changes
from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_deletions import Deletions
from mountfs.backends.dropbox_listing import PAGE_MAX, Listings
from mountfs.backends.dropbox_looks import Looks
from mountfs.backends.dropbox_multipart import LIMITS, Multipart
from mountfs.backends.dropbox_objects import (
    KEY_SIZE_MAX,
    Keys,
    check_components,
    check_named,
    client_modified,
)
from mountfs.backends.dropbox_options import DropboxOptions, parse_options, root_of
from mountfs.backends.dropbox_properties import (
    CONTENT_HASH,
    USER_SIZE_MAX,
    Template,
    group_of,
)
from mountfs.backends.dropbox_reads import Reads
from mountfs.backends.dropbox_uploads import (
    SESSION_MAX,
    NewFile,
    Uploads,
)
from mountfs.storage.body import Body, stated_size
from mountfs.storage.errors import (
    AlreadyExists,
    InvalidRequest,
    NotFound,
    PreconditionFailed,
    ServiceFailed,
    Unsupported,
    VersionChanged,
    WrongKind,
)
from mountfs.storage.protocol import Storager
from mountfs.storage.types import (
    NO_METADATA,
    Absent,
    Call,
    Capabilities,
    Condition,
    Content,
    Features,
    ListMode,
    Metadata,
    Object,
    ObjectKind,
    Page,
    Part,
    Upload,
    Version,
)

LINK_S = 4 * 3600
"""How long a temporary link lasts; it is Dropbox that says so."""
DELETE_MAX = 1000


def open_dropbox(url: str, options: Mapping[str, object]) -> Storager:
    """Return the store at `dropbox:///folder`; nothing is sent.

    Raises `InvalidRequest` for a URL or an option that makes no sense.
    """
    return DropboxStorager(Keys(root_of(url)), parse_options(options))


class DropboxStorager(NoAppend):
    """One folder of one account."""

    _service = "Dropbox"

    def __init__(self, keys: Keys, options: DropboxOptions) -> None:
        self._keys = keys
        self._capabilities = _capabilities(keys, has_properties=options.properties)
        self._client = DropboxClient(options)
        self._template = Template(is_wanted=options.properties)
        self._looks = Looks(self._client, keys, self._template)
        self._reads = Reads(self._client, keys, self._looks)
        self._listings = Listings(self._client, keys, self._template)
        self._uploads = Uploads(self._client)
        self._multipart = Multipart(self._client, self._uploads)
        self._deletions = Deletions(self._client, keys, self._looks, self._listings)
        self._changes = Changes(
            self._client, keys, self._looks, self._deletions, self._template
        )

    @property
    def capabilities(self) -> Capabilities:
        """What Dropbox can do."""
        return self._capabilities

    @property
    def features(self) -> Features:
        """No gate: nothing is emulated here."""
        return Features()

    async def stat(self, key: str, *, kind: ObjectKind | None = None) -> Object:
        """Send one get_metadata; none for the root, of which Dropbox tells nothing."""
        if not key and kind is ObjectKind.DIRECTORY:
            return Object(key="", kind=ObjectKind.DIRECTORY)
        self._keys.check(key, self._capabilities)
        found = await self._looks.object(key)
        is_directory = found.kind is ObjectKind.DIRECTORY
        is_wanted = is_directory if key.endswith("/") else True
        if kind is not None:
            is_wanted = is_wanted and found.kind is kind
        if not is_wanted:
            raise NotFound("something of another kind is there", key=key)
        return found

    async def list(
        self,
        prefix: str,
        *,
        mode: ListMode = ListMode.DIRECTORY,
        token: str | None = None,
        limit: int | None = None,
    ) -> Page:
        """Send one list_folder, and what continues it, for all pages together."""
        page = await self._listings.page(prefix, mode, token, limit)
        self._looks.remember(page.objects)
        return page

    async def read(
        self,
        key: str,
        offset: int = 0,
        size: int | None = None,
        *,
        version: Version | None = None,
    ) -> Content:
        """Send one download, and a get_metadata for what that does not tell.

        Downloads tell no properties: they are asked for with the first bytes of a
        file, unless they are known of this revision.
        """
        self._keys.check(key, self._capabilities)
        _checks.check_range(offset, size)
        return await self._reads.read(key, offset, size, version)

    async def write(
        self,
        key: str,
        body: Body | None,
        *,
        size: int | None = None,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Send one upload; an upload session for more than 8 MiB.

        Without a condition it is first asked what is there: a folder, or a file whose
        name differs in case, must not be written over.
        """
        self._check_file_key(key)
        wanted = stated_size(body, size)
        _checks.check_metadata(metadata, self._capabilities)
        _checks.check_condition(Call.WRITE, condition, self._capabilities)
        _checks.check_write_size(key, wanted, self._capabilities)
        old = await self._old(key, condition)
        kept = await self._inherited(key, metadata, inherit)
        new = self._new_file(key, kept, condition)
        with _conditional(condition, key):
            made = await self._uploads.write(key, body, wanted, new)
        return await self._written(key, made, kept, old)

    def _check_file_key(self, key: str) -> None:
        self._keys.check(key, self._capabilities)
        if key.endswith("/"):
            raise InvalidRequest("the key of a file ends in no '/'", key=key)

    async def _written(
        self, key: str, made: Any, kept: Metadata, old: str | None
    ) -> Object:
        if made.rev == old and self._template.is_wanted:
            # Equal bytes are not written, and then neither is what was to go along.
            await self._changes.set_group(key, kept, str(made.content_hash))
        return self._looks.noted(key, made, kept)

    async def _old(self, key: str, condition: Condition) -> str | None:
        """Return the rev that a write replaces, if it may be one."""
        if isinstance(condition, Version):
            return condition.content
        if condition is not None:
            return None
        try:
            known = await self._looks.raw(key)
        except NotFound:
            return None
        check_named(key, known)
        if isinstance(known, files.FolderMetadata):
            raise WrongKind("a folder is there", key=key)
        return str(known.rev)

    async def _inherited(
        self, key: str, metadata: Metadata, inherit: Object | None
    ) -> Metadata:
        if inherit is None:
            return metadata
        base = inherit.metadata
        if base is None or not inherit.is_described:
            try:
                base = (await self._looks.object(key)).metadata
            except NotFound:
                base = None
        return _checks.inherited(metadata, base)

    def _new_file(self, key: str, metadata: Metadata, condition: Condition) -> NewFile:
        def groups_for(api: Dropbox, content_hash: str) -> list[Any] | None:
            template_id = self._template.find(api, make=True)
            if template_id is None:
                return None
            return [group_of(template_id, metadata, content_hash)]

        match condition:
            case Version():
                mode = files.WriteMode.update(condition.content)
            case Absent():
                mode = files.WriteMode.add
            case _:
                mode = files.WriteMode.overwrite
        return NewFile(
            path=self._keys.path(key),
            mode=mode,
            is_strict=condition is not None,
            client_modified=client_modified(metadata),
            groups_for=groups_for,
        )

    async def delete(self, key: str, *, condition: Condition = None) -> None:
        """Send one delete_v2; it is first asked what is there if that is not known."""
        self._keys.check(key, self._capabilities)
        _checks.check_condition(Call.DELETE, condition, self._capabilities)
        rev = condition.content if isinstance(condition, Version) else None
        if key.endswith("/"):
            await self._deletions.delete_folder(key)
        else:
            await self._deletions.delete_file(key, rev)

    async def delete_many(self, keys: Sequence[str]) -> dict[str, Exception]:
        """Send delete_batch, up to 1 000 files each; directories one by one."""
        return await self._deletions.delete_many(
            keys, lambda key: self._keys.check(key, self._capabilities)
        )

    async def copy(
        self,
        source: str,
        target: str,
        *,
        source_version: Version | None = None,
        metadata: Metadata | None = None,
        condition: Condition = None,
    ) -> Object:
        """Send get_metadata, copy_v2 and, for the metadata, properties/overwrite."""
        for key in (source, target):
            self._keys.check(key, self._capabilities)
        _checks.check_condition(Call.COPY, condition, self._capabilities)
        if metadata is not None:
            _checks.check_metadata(metadata, self._capabilities)
        return await self._changes.copy(
            source, target, source_version, metadata, condition
        )

    async def move(
        self, source: str, target: str, *, source_version: Version | None = None
    ) -> Object:
        """Send get_metadata and move_v2, for a file or a folder of any size."""
        for key in (source, target):
            self._keys.check(key, self._capabilities)
        if source.endswith("/") != target.endswith("/"):
            raise InvalidRequest("a file does not move onto a directory", key=source)
        return await self._changes.move(source, target, source_version)

    async def make_dir(self, key: str, *, metadata: Metadata = NO_METADATA) -> Object:
        """Send create_folder_v2, and properties/overwrite for metadata."""
        self._keys.check(key, self._capabilities)
        if not key.endswith("/"):
            raise InvalidRequest("the key of a directory ends in '/'", key=key)
        _checks.check_metadata(metadata, self._capabilities)
        return await self._changes.make_folder(key, metadata)

    async def make_link(
        self,
        key: str,
        target: str,
        *,
        metadata: Metadata = NO_METADATA,
        condition: Condition = None,
    ) -> Object:
        """Refuse: Dropbox tells of links, and makes none."""
        raise Unsupported("Dropbox makes no links", key=key)

    async def set_metadata(
        self, object: Object, metadata: Metadata, *, condition: Condition = None
    ) -> Object:
        """Send one properties/overwrite; first get_metadata if too little is known.

        Bytes that another client writes between the two never get these metadata: the
        property group names the hash of those that it is for.
        """
        if not self._capabilities.set_metadata:
            raise Unsupported("properties are off", key=object.key)
        self._keys.check(object.key, self._capabilities)
        _checks.check_metadata(metadata, self._capabilities)
        _checks.check_condition(Call.COPY, condition, self._capabilities)
        found = object
        if not _is_enough(object):
            found = await self._looks.object(object.key)
        _checks.check_holds(object.key, condition, found.version)
        system = (found.metadata or NO_METADATA).system
        content_hash = system.get(CONTENT_HASH, "")
        await self._changes.set_group(object.key, metadata, content_hash)
        return self._looks.changed(found, replace(metadata, system=system))

    async def create_multipart(
        self,
        key: str,
        *,
        metadata: Metadata = NO_METADATA,
        inherit: Object | None = None,
    ) -> Upload:
        """Send one upload_session/start; the id holds the metadata."""
        self._check_file_key(key)
        _checks.check_metadata(metadata, self._capabilities)
        kept = await self._inherited(key, metadata, inherit)
        return await self._multipart.create(key, kept)

    async def write_part(
        self, upload: Upload, index: int, body: Body, *, size: int | None = None
    ) -> Part:
        """Send one append; a part below the full size waits for the completion."""
        return await self._multipart.write(upload, index, body, stated_size(body, size))

    async def copy_part(
        self, upload: Upload, index: int, source: Object, offset: int, size: int
    ) -> Part:
        """Refuse: a session takes bytes alone."""
        raise Unsupported("Dropbox copies no ranges", key=upload.key)

    async def list_parts(self, upload: Upload) -> tuple[Part, ...]:
        """Return the parts that were sent by this store object: nobody else tells."""
        return self._multipart.parts(upload)

    async def list_uploads(self, prefix: str = "") -> tuple[Upload, ...]:
        """Return none: Dropbox lists no upload sessions, and forgets them in time."""
        return ()

    async def complete_multipart(
        self,
        upload: Upload,
        parts: Sequence[Part],
        *,
        inherit: Object | None = None,
        condition: Condition = None,
    ) -> Object:
        """Send the append that closes the session, and the finish."""
        key = upload.key
        _checks.check_condition(Call.COMPLETE, condition, self._capabilities)
        kept = self._multipart.metadata_of(upload)
        old = await self._old(key, condition)
        new = self._new_file(key, kept, condition)
        with _conditional(condition, key):
            made = await self._multipart.complete(upload, parts, new)
        return await self._written(key, made, kept, old)

    async def abort_multipart(self, upload: Upload) -> None:
        """Send nothing: Dropbox forgets a session after seven days."""
        self._multipart.abort(upload)

    async def sign_read(self, key: str, *, expires_s: int) -> str:
        """Send get_temporary_link; the link lasts four hours, whatever is asked."""
        self._keys.check(key, self._capabilities)
        if not 0 < expires_s <= LINK_S:
            raise InvalidRequest(f"a link lasts at most {LINK_S} s, not {expires_s}")
        path = self._keys.path(key)
        reply = await self._client.call(
            lambda api: api.files_get_temporary_link(path), key
        )
        link = str(reply.link)
        if not link.startswith("https://"):
            raise ServiceFailed("Dropbox gave a link that is none", key=key)
        return link

    @property
    def busy(self) -> int:
        """How many threads wait for the service, those of abandoned calls included."""
        return self._client.busy

    async def close(self) -> None:
        """Close the idle connections."""
        await self._client.close()


def _is_enough(object: Object) -> bool:
    """Tell whether all is known that a change of metadata needs."""
    if object.metadata is None or object.version is None:
        return False
    is_directory = object.kind is ObjectKind.DIRECTORY
    return is_directory or CONTENT_HASH in object.metadata.system


@contextmanager
def _conditional(condition: Condition, key: str) -> Iterator[None]:
    """Say of a refusal what condition is lost.

    A folder in the way of a new file may have a name of another case, which nobody
    sees before: the bytes are kept beside it then, as where it is a file.
    """
    try:
        yield
    except PreconditionFailed as error:
        if isinstance(condition, Version):
            raise VersionChanged(
                "the file is another by now", key=key, code=error.code
            ) from error
        raise AlreadyExists("a file is there", key=key, code=error.code) from error
    except WrongKind as error:
        is_folder = (error.code or "").endswith("conflict/folder")
        if not (is_folder and isinstance(condition, Absent)):
            raise
        raise AlreadyExists("a directory is there", key=key, code=error.code) from error


def _capabilities(keys: Keys, *, has_properties: bool) -> Capabilities:
    return Capabilities(
        service="dropbox",
        native_dirs=True,
        copy=True,
        move=True,
        move_clears=True,
        move_dir=True,
        move_dir_keeps_versions=False,
        metadata=has_properties,
        metadata_size_max=USER_SIZE_MAX if has_properties else 0,
        dir_metadata=has_properties,
        list_metadata=has_properties,
        multipart=LIMITS,
        conditions=frozenset({Call.WRITE, Call.COPY, Call.DELETE, Call.COMPLETE}),
        set_metadata=has_properties,
        signed_urls=True,
        utf8_keys=False,
        key_size_max=KEY_SIZE_MAX - len(keys.root.encode("utf-8", "surrogateescape")),
        key_check=check_components,
        object_size_max=SESSION_MAX,
        write_size_max=SESSION_MAX,
        list_page_max=PAGE_MAX,
        delete_many_max=DELETE_MAX,
    )
