"""What a request to Google Cloud Storage is called: by the methods of its JSON API.

The bill goes by these names (`mountfs.configuration.prices`), and so do the metrics.
"""

import re
from urllib.parse import urlsplit

_METHODS: tuple[tuple[str, str, str], ...] = (
    ("POST", r"/batch/", "batch"),
    ("POST", r"/o/[^/]+/rewriteTo/", "objects.rewrite"),
    ("POST", r"/o/[^/]+/copyTo/", "objects.copy"),
    ("POST", r"/o/[^/]+/moveTo/", "objects.move"),
    ("POST", r"/o/[^/]+/compose$", "objects.compose"),
    ("GET|HEAD", r"/o/[^/]+$", "objects.get"),
    ("PATCH", r"/o/[^/]+$", "objects.patch"),
    ("PUT", r"/upload/", "objects.insert"),
    ("POST", r"/upload/", "objects.insert"),
    ("DELETE", r"/upload/", "uploads.cancel"),
    ("PUT", r"/o/[^/]+$", "objects.update"),
    ("DELETE", r"/o/[^/]+$", "objects.delete"),
    ("GET|HEAD", r"/b/[^/]+/o/?$", "objects.list"),
    ("GET|HEAD", r"/b/[^/]+$", "buckets.get"),
    ("POST", r":pull$", "subscriptions.pull"),
    ("POST", r":acknowledge$", "subscriptions.acknowledge"),
)
_COMPILED = tuple(
    (frozenset(methods.split("|")), re.compile(pattern), name)
    for methods, pattern, name in _METHODS
)


def name_of(method: str, url: str) -> str:
    """Return the name of a request; `other` if it is none that mountfs sends."""
    path = urlsplit(url).path
    for methods, pattern, name in _COMPILED:
        if method in methods and pattern.search(path):
            return name
    return "other"
