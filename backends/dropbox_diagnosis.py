"""What a Dropbox tells `mountfs doctor`."""

from collections.abc import Mapping, Sequence

from mountfs.backends.dropbox_client import DropboxClient
from mountfs.backends.dropbox_options import DropboxOptions, parse_options
from mountfs.backends.dropbox_space import DropboxSpace
from mountfs.backends.dropbox_tokens import credentials_of, token_path
from mountfs.storage.diagnosis import Address, Deed, Diagnosis, Finding, State
from mountfs.storage.errors import StoreError

PUBLIC_ENDPOINT = "https://api.dropboxapi.com"
_READ_SCOPES = ("account_info.read", "files.metadata.read", "files.content.read")
_WRITE_SCOPES = ("files.metadata.write", "files.content.write")
_NEEDS: Mapping[Deed, str] = {
    Deed.LIST: "files.metadata.read",
    Deed.STAT: "files.metadata.read",
    Deed.READ: "files.content.read",
    Deed.WRITE: "files.content.write",
    Deed.COPY: "files.content.write",
    Deed.DELETE: "files.content.write",
    Deed.MULTIPART: "files.content.write",
    Deed.ABORT: "files.content.write",
}
_FULL_AT = 0.95


def open_diagnosis(url: str, options: Mapping[str, object]) -> Diagnosis:
    """Return what tells of the store at a URL; nothing is sent."""
    return DropboxDiagnosis(parse_options(options))


class DropboxDiagnosis:
    """Tells of one account."""

    def __init__(self, options: DropboxOptions) -> None:
        self._options = options
        self._space = DropboxSpace(DropboxClient(options))

    @property
    def needs(self) -> Mapping[Deed, str]:
        """The scopes of the app."""
        return _NEEDS

    def address(self) -> Address | None:
        """Return the first of the hosts."""
        url = self._options.endpoint or PUBLIC_ENDPOINT
        return Address(url, self._options.ca_file)

    def credentials(self) -> Finding:
        """Tell which file the token is in, and whether it is renewed."""
        if self._options.access_token is not None:
            text = "a token that was given, which lasts for hours"
            return Finding("credentials", State.WARN, text, "run `mountfs auth`")
        try:
            found = credentials_of(self._options)
        except StoreError as error:
            cure = "see docs/how-to/dropbox.md"
            return Finding("credentials", State.FAIL, error.reason, cure)
        place = f"the file {token_path(self._options)}"
        if found.refresh_token is None:
            text = f"from {place}, a token that lasts for hours"
            return Finding("credentials", State.WARN, text, "run `mountfs auth`")
        text = f"from {place}, a token that is renewed, of the app {found.app_key}"
        return Finding("credentials", State.OK, text)

    async def bucket(self) -> Sequence[Finding]:
        """Ask how full the account is."""
        try:
            space = await self._space.space()
        except StoreError as error:
            return [Finding("space", State.SKIP, error.reason)]
        if space is None:
            return []
        if space.used > _FULL_AT * space.total:
            text = f"only {space.free >> 20} MiB are free"
            return [Finding("space", State.WARN, text, "make room in the account")]
        return [Finding("space", State.OK, f"{space.free >> 20} MiB are free")]

    def policy(self, *, read_only: bool) -> str:
        """Return the scopes that the app needs."""
        scopes = _READ_SCOPES if read_only else _READ_SCOPES + _WRITE_SCOPES
        return "\n".join(scopes)

    async def close(self) -> None:
        """Close the connections."""
        await self._space.close()
