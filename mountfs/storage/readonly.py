"""ReadOnlyStorager: lets no write of any kind through to a store.

It sits right around the backend, so that neither the mount nor another wrapper can
send one. Every refusal is a `ReadOnlyStore`, and nothing was sent.
"""

from typing import Never

from mountfs.storage.errors import ReadOnlyStore
from mountfs.storage.wrapper import StoragerWrapper


async def _refuse(*_arguments: object, **_options: object) -> Never:
    raise ReadOnlyStore("the store was opened read-only")


class ReadOnlyStorager(StoragerWrapper):
    """Forwards stat, list, read and signed URLs; refuses everything else."""

    write = _refuse
    delete = _refuse
    delete_many = _refuse
    copy = _refuse
    move = _refuse
    make_dir = _refuse
    make_link = _refuse
    set_metadata = _refuse
    create_multipart = _refuse
    write_part = _refuse
    copy_part = _refuse
    complete_multipart = _refuse
    abort_multipart = _refuse
    create_append = _refuse
    write_append = _refuse
    commit_append = _refuse
