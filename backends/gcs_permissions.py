"""Which permission, on what, each request of ours needs. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

from mountfs.backends.gcs_requests import name_of

_PATH = re.compile(r"/b/([^/]+)(?:/o(?:/([^/]+))?)?")
_CREATE = "storage.objects.create (to replace an object storage.objects.delete as well)"
_PERMISSIONS: Mapping[str, str] = {
    "objects.get": "storage.objects.get",
    "objects.list": "storage.objects.list",
    "objects.insert": _CREATE,
    "objects.copy": f"storage.objects.get and {_CREATE}",
    "objects.rewrite": f"storage.objects.get and {_CREATE}",
    "objects.compose": f"storage.objects.get and {_CREATE}",
    "objects.move": "storage.objects.move",
    "objects.patch": "storage.objects.update",
    "objects.update": "storage.objects.update",
    "objects.delete": "storage.objects.delete",
    "buckets.get": "storage.buckets.get",
}


def needed(method: str, url: str) -> str:
    """Return what must be allowed for a request; nothing if that is not known."""
    found = _PATH.search(urlsplit(url).path)
    permissions = _PERMISSIONS.get(name_of(method, url))
    if found is None or permissions is None:
        return ""
    key = f"/{unquote(found[2])}" if found[2] else ""
    return f"{permissions} on gs://{unquote(found[1])}{key}"
