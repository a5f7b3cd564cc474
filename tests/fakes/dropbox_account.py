"""One Dropbox account: the routes of the HTTP API v2 over `dropbox_tree`.

`answer` takes what one request says and returns the JSON and the bytes of its answer.
See `dropbox_tree` for the pages of the API documentation that are meant by [files],
[props] and so on; [auth] is
https://www.dropbox.com/developers/documentation/http/documentation#authorization
and [errors] .../http/documentation#error-handling.
"""

import datetime
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from tests.fakes.dropbox_sessions import Cursors, Sessions, check_payload
from tests.fakes.dropbox_tree import (
    PAGE_MAX,
    ApiError,
    Commit,
    Entry,
    Tree,
    lowered,
)

Json = Mapping[str, Any]
Answer = tuple[object, bytes]
FIELDS_MAX = 32
FIELD_SIZE_MAX = 1024
BATCH_MAX = 1000
TEAM_SPACE = "4711"


class Account:
    """The routes, one method each; its name is that of the route."""

    def __init__(self) -> None:
        self.tree = Tree()
        self.sessions = Sessions()
        self.cursors = Cursors(self.tree)
        self.templates: dict[str, Json] = {}
        self.may_have_templates = True
        """Off for an app that sees its own folder alone."""
        self.longpoll_backoff: int | None = None
        self.tells_changes = True
        """Off for tests that count requests: whoever waits hears nothing."""
        self.jobs: dict[str, object] = {}
        self.job_rounds = 1
        """How often a batch job answers that it is in progress."""
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._routes: Mapping[str, Callable[[Json, bytes], object]] = {
            "files/upload": self._upload,
            "files/upload_session/start": self._session_start,
            "files/upload_session/append_v2": self._session_append,
            "files/upload_session/finish": self._session_finish,
            "files/upload_session/finish_batch_v2": self._session_finish_batch,
            "files/get_metadata": self._get_metadata,
            "files/list_folder": self._list_folder,
            "files/list_folder/continue": self._list_folder_continue,
            "files/list_folder/get_latest_cursor": self._latest_cursor,
            "files/create_folder_v2": self._create_folder,
            "files/create_folder_batch": self._create_folder_batch,
            "files/create_folder_batch/check": self._check_job,
            "files/delete_v2": self._delete,
            "files/delete_batch": self._delete_batch,
            "files/delete_batch/check": self._check_job,
            "files/move_v2": self._move,
            "files/copy_v2": self._copy,
            "files/restore": self._restore,
            "files/get_temporary_link": self._temporary_link,
            "users/get_space_usage": self._space_usage,
            "users/get_current_account": self._current_account,
            "check/user": self._check_user,
            "file_properties/templates/add_for_user": self._add_template,
            "file_properties/templates/list_for_user": self._list_templates,
            "file_properties/templates/get_for_user": self._get_template,
            "file_properties/properties/add": self._add_properties,
            "file_properties/properties/overwrite": self._overwrite_properties,
        }

    def knows(self, route: str) -> bool:
        """Whether there is such a route."""
        return route in self._routes or route in {
            "files/download",
            "files/list_folder/longpoll",
        }

    def answer(self, route: str, arg: Json, data: bytes) -> Answer:
        """Carry out one request. Raises `ApiError`."""
        if route == "files/list_folder/longpoll":
            return self._longpoll(arg), b""
        with self.lock, self.tree.changed:
            if route == "files/download":
                return self._download(arg)
            return self._routes[route](arg, data), b""

    # --- bytes ------------------------------------------------------------------

    def _upload(self, arg: Json, data: bytes) -> object:
        check_payload(data, arg.get("content_hash"))
        try:
            return self._file(self.tree.write(self._commit(arg), data), arg["path"])
        except ApiError as error:
            raise _upload_error(error) from error

    def _session_start(self, arg: Json, data: bytes) -> object:
        check_payload(data, arg.get("content_hash"))
        kind = _tag(arg.get("session_type") or "sequential")
        is_closed = bool(arg.get("close"))
        return {"session_id": self.sessions.start(data, kind, is_closed=is_closed)}

    def _session_append(self, arg: Json, data: bytes) -> object:
        check_payload(data, arg.get("content_hash"))
        cursor = arg["cursor"]
        self.sessions.append(
            cursor["session_id"],
            cursor["offset"],
            data,
            is_closed=bool(arg.get("close")),
            outer="",
        )
        return None

    def _session_finish(self, arg: Json, data: bytes) -> object:
        check_payload(data, arg.get("content_hash"))
        cursor, commit = arg["cursor"], arg["commit"]
        content = self.sessions.finish(cursor["session_id"], cursor["offset"], data)
        try:
            made = self.tree.write(self._commit(commit), content)
        except ApiError as error:
            raise _write_error(error) from error
        self.sessions.end(cursor["session_id"])
        return self._file(made, commit["path"])

    def _session_finish_batch(self, arg: Json, data: bytes) -> object:
        """[files] finish_batch_v2: up to 1 000 entries, an answer for each in order."""
        assert 0 < len(arg["entries"]) <= BATCH_MAX
        answers: list[object] = []
        for entry in arg["entries"]:
            cursor, commit = entry["cursor"], entry["commit"]
            try:
                content = self.sessions.finish_closed(
                    cursor["session_id"], cursor["offset"]
                )
                try:
                    made = self.tree.write(self._commit(commit), content)
                except ApiError as error:
                    raise _write_error(error) from error
            except ApiError as error:
                answers.append({".tag": "failure", "failure": error_json(error)})
                continue
            self.sessions.end(cursor["session_id"])
            answers.append({".tag": "success", **self._file(made, commit["path"])})
        return {"entries": answers}

    def _download(self, arg: Json) -> Answer:
        path = arg["path"]
        if path.startswith("rev:"):
            if path[4:] not in self.tree.revisions:
                raise ApiError("path", "not_found")
            lower, data = self.tree.revisions[path[4:]]
            known = self.tree.entries.get(lower)
            entry = known or Entry(lower.rpartition("/")[2], "id:gone", data, path[4:])
            return self._file(entry, lower), data
        entry = self.tree.find(path, "path")
        if entry.data is None:
            raise ApiError("path", "not_file")
        # Harsh: DownloadArg has no `include_property_groups`, so none are told.
        return self._file(entry, path), entry.data

    def _commit(self, arg: Json) -> Commit:
        mode = arg.get("mode") or "add"
        modified = arg.get("client_modified")
        return Commit(
            path=arg["path"],
            mode=_tag(mode),
            rev=mode.get("update", "") if isinstance(mode, dict) else "",
            is_strict=bool(arg.get("strict_conflict")),
            client_modified=_seconds(modified) if modified else None,
            groups=self._groups(arg.get("property_groups")),
        )

    # --- looking ----------------------------------------------------------------

    def _get_metadata(self, arg: Json, data: bytes) -> object:
        if not arg["path"]:
            raise ApiError("path", "malformed_path")  # "the root folder is unsupported"
        self.tree.find(arg["path"], "path")
        place = self.tree.place_of(arg["path"])
        return self._shown(place, self._template_ids(arg))

    def _list_folder(self, arg: Json, data: bytes) -> object:
        limit = arg.get("limit") or PAGE_MAX
        assert 1 <= limit <= PAGE_MAX
        begun = self.cursors.begin(
            arg["path"],
            limit,
            self._template_ids(arg),
            is_recursive=bool(arg.get("recursive")),
        )
        return self._page(begun)

    def _list_folder_continue(self, arg: Json, data: bytes) -> object:
        return self._page(self.cursors.find(arg["cursor"]))

    def _latest_cursor(self, arg: Json, data: bytes) -> object:
        begun = self.cursors.begin(
            arg["path"],
            PAGE_MAX,
            self._template_ids(arg),
            is_recursive=bool(arg.get("recursive")),
        )
        return {"cursor": self.cursors.latest(begun)}

    def _page(self, cursor: Any) -> object:
        paths, has_more = self.cursors.page(cursor)
        entries = [self._shown(each, cursor.template_ids) for each in paths]
        return {
            "entries": entries,
            "cursor": self.cursors.keep(cursor),
            "has_more": has_more,
        }

    def _longpoll(self, arg: Json) -> object:
        """[files] list_folder/longpoll: blocks until a change, or the timeout."""
        answer: dict[str, object] = {}
        if self.longpoll_backoff is not None:
            answer["backoff"] = self.longpoll_backoff
        with self.tree.changed:
            cursor = self.cursors.find(arg["cursor"])
            answer["changes"] = self.tree.changed.wait_for(
                lambda: (
                    self.tells_changes
                    and bool(cursor.left or self.cursors.changed(cursor))
                ),
                timeout=arg.get("timeout", 30),
            )
        return answer

    def _shown(self, lower: str, template_ids: tuple[str, ...]) -> dict[str, object]:
        entry = self.tree.entries.get(lower)
        if entry is None:
            return {
                ".tag": "deleted",
                "name": lower.rpartition("/")[2],
                "path_lower": lower,
                "path_display": lower,
            }
        if not entry.is_folder:
            return {".tag": "file", **self._file(entry, lower, template_ids)}
        return {".tag": "folder", **self._folder(entry, lower, template_ids)}

    def _file(
        self, entry: Entry, path: str, template_ids: tuple[str, ...] = ()
    ) -> dict[str, object]:
        assert entry.data is not None
        link = {} if entry.target is None else {"target": entry.target}
        return {
            **self._folder(entry, path, template_ids),
            **({"symlink_info": link} if link else {}),
            "client_modified": _time(entry.client_modified),
            "server_modified": _time(entry.server_modified),
            "rev": entry.rev,
            "size": len(entry.data),
            "is_downloadable": True,
            "content_hash": entry.hash,
        }

    def _folder(
        self, entry: Entry, path: str, template_ids: tuple[str, ...] = ()
    ) -> dict[str, object]:
        lower = lowered(path)
        shown: dict[str, object] = {
            "name": entry.name,
            "id": entry.id,
            "path_lower": lower,
            "path_display": self.tree.display(lower),
        }
        groups = [
            _group_json(template_id, entry.groups[template_id])
            for template_id in template_ids
            if template_id in entry.groups
        ]
        if groups:
            shown["property_groups"] = groups
        return shown

    # --- names ------------------------------------------------------------------

    def _create_folder(self, arg: Json, data: bytes) -> object:
        made = self.tree.make_folder(arg["path"])
        return {"metadata": self._folder(made, arg["path"])}

    def _create_folder_batch(self, arg: Json, data: bytes) -> object:
        assert len(arg["paths"]) <= 10_000
        answers: list[object] = []
        for path in dict.fromkeys(arg["paths"]):
            try:
                made = self.tree.make_folder(path)
            except ApiError as error:
                answers.append({".tag": "failure", "failure": error_json(error)})
            else:
                shown = self._folder(made, path)
                answers.append({".tag": "success", "metadata": shown})
        if arg.get("force_async"):
            return self._job({".tag": "complete", "entries": answers})
        return {".tag": "complete", "entries": answers}

    def _delete(self, arg: Json, data: bytes) -> object:
        return {"metadata": self._deleted(arg)}

    def _deleted(self, arg: Json) -> dict[str, object]:
        path, entry = self.tree.delete(arg["path"], arg.get("parent_rev"))
        if entry.is_folder:
            return {".tag": "folder", **self._folder(entry, path)}
        return {".tag": "file", **self._file(entry, path)}

    def _delete_batch(self, arg: Json, data: bytes) -> object:
        """[files] delete_batch: asynchronous."""
        answers: list[object] = []
        for entry in arg["entries"]:
            try:
                shown = self._deleted(entry)
            except ApiError as error:
                answers.append({".tag": "failure", "failure": error_json(error)})
            else:
                answers.append({".tag": "success", "metadata": shown})
        return self._job({".tag": "complete", "entries": answers})

    def _job(self, result: object) -> object:
        job = f"dbjid:fake{next(self._numbers)}"
        self.jobs[job] = [self.job_rounds, result]
        return {".tag": "async_job_id", "async_job_id": job}

    def _check_job(self, arg: Json, data: bytes) -> object:
        job: Any = self.jobs.get(arg["async_job_id"])
        if job is None:
            raise ApiError("invalid_async_job_id")
        job[0] -= 1
        return job[1] if job[0] < 0 else {".tag": "in_progress"}

    def _move(self, arg: Json, data: bytes) -> object:
        return self._relocated(arg, is_move=True)

    def _copy(self, arg: Json, data: bytes) -> object:
        return self._relocated(arg, is_move=False)

    def _relocated(self, arg: Json, *, is_move: bool) -> object:
        place = self.tree.relocate(arg["from_path"], arg["to_path"], is_move=is_move)
        return {"metadata": self._shown(place, ())}

    def _restore(self, arg: Json, data: bytes) -> object:
        return self._file(self.tree.restore(arg["path"], arg["rev"]), arg["path"])

    def _temporary_link(self, arg: Json, data: bytes) -> object:
        """[files] get_temporary_link: "expires in four hours"."""
        entry = self.tree.find(arg["path"], "path")
        if entry.is_folder:
            raise ApiError("path", "not_file")
        shown = self._file(entry, arg["path"])
        link = f"https://dl.dropboxusercontent.com/apitl/1/{entry.id[3:]}/{entry.name}"
        return {"metadata": shown, "link": link}

    # --- the account ------------------------------------------------------------

    def _space_usage(self, arg: Json, data: bytes) -> object:
        allocation = {".tag": "individual", "allocated": self.tree.quota}
        return {"used": self.tree.used, "allocation": allocation}

    def _current_account(self, arg: Json, data: bytes) -> object:
        """https://www.dropbox.com/developers/documentation/http/documentation
        #users-get_current_account: FullAccount, with the team space as `root_info`.
        """
        names = ("given_name", "surname", "familiar_name", "display_name")
        return {
            "account_id": "dbid:fake".ljust(40, "0"),
            "name": dict.fromkeys((*names, "abbreviated_name"), "Fake"),
            "email": "fake@example.com",
            "email_verified": True,
            "disabled": False,
            "locale": "en",
            "referral_link": "https://db.tt/fake",
            "is_paired": False,
            "account_type": {".tag": "business"},
            "root_info": {
                ".tag": "team",
                "root_namespace_id": TEAM_SPACE,
                "home_namespace_id": "1",
                "home_path": "/Fake",
            },
        }

    def _check_user(self, arg: Json, data: bytes) -> object:
        return {"result": arg.get("query", "")}

    # --- properties -------------------------------------------------------------

    def _add_template(self, arg: Json, data: bytes) -> object:
        """[props] templates/add_for_user."""
        if not self.may_have_templates:
            raise ApiError("restricted_content")
        if len(arg["fields"]) > FIELDS_MAX:
            raise ApiError("too_many_properties")
        names = [each["name"] for each in arg["fields"]]
        if len(set(names)) < len(names):
            raise ApiError("conflicting_property_names")
        if len(arg["name"]) > 256 or len(arg["description"]) > 1024:
            raise ApiError("template_attribute_too_large")
        template_id = f"ptid:fake{next(self._numbers):016d}"
        self.templates[template_id] = arg
        return {"template_id": template_id}

    def _list_templates(self, arg: Json, data: bytes) -> object:
        return {"template_ids": [*self.templates]}

    def _get_template(self, arg: Json, data: bytes) -> object:
        if arg["template_id"] not in self.templates:
            raise ApiError("template_not_found", value=arg["template_id"])
        return self.templates[arg["template_id"]]

    def _add_properties(self, arg: Json, data: bytes) -> object:
        entry = self.tree.find(arg["path"], "path")
        groups = self._groups(arg["property_groups"])
        if set(groups) & set(entry.groups):
            raise ApiError("property_group_already_exists")
        return self._set_properties(entry, arg["path"], groups)

    def _overwrite_properties(self, arg: Json, data: bytes) -> object:
        """[props] properties/overwrite: omitted fields of the group are deleted."""
        entry = self.tree.find(arg["path"], "path")
        groups = self._groups(arg["property_groups"])
        return self._set_properties(entry, arg["path"], groups)

    def _set_properties(
        self, entry: Entry, path: str, groups: dict[str, dict[str, str]]
    ) -> object:
        entry.groups = {**entry.groups, **groups}
        self.tree.touch(self.tree.place_of(path))
        return None

    def _groups(self, given: Any) -> dict[str, dict[str, str]]:
        """[props]: fields of the template only, of at most 1 024 bytes each."""
        groups: dict[str, dict[str, str]] = {}
        for group in given or ():
            template = self.templates.get(group["template_id"])
            if template is None:
                raise ApiError("template_not_found", value=group["template_id"])
            if group["template_id"] in groups:
                raise ApiError("duplicate_property_groups")
            known = {each["name"] for each in template["fields"]}
            fields = {each["name"]: each["value"] for each in group["fields"]}
            if not set(fields) <= known:
                raise ApiError("does_not_fit_template")
            if any(len(text.encode()) > FIELD_SIZE_MAX for text in fields.values()):
                raise ApiError("property_field_too_large")
            groups[group["template_id"]] = fields
        return groups

    def _template_ids(self, arg: Json) -> tuple[str, ...]:
        wanted = arg.get("include_property_groups") or {}
        ids = tuple(wanted.get("filter_some", ()))
        for each in ids:
            if each not in self.templates:
                raise ApiError("template_error", "template_not_found", value=each)
        return ids


_PROPERTY_ERRORS = frozenset(
    {
        "template_not_found",
        "duplicate_property_groups",
        "does_not_fit_template",
        "property_field_too_large",
    }
)


def _upload_error(error: ApiError) -> ApiError:
    """[files] UploadError: what failed is under `path`, as UploadWriteFailed."""
    if error.tags[0] in _PROPERTY_ERRORS:
        return ApiError("properties_error", *error.tags, value=error.value)
    reason = error_json(ApiError(*error.tags))
    return ApiError("path", value={"reason": reason, "upload_session_id": "fake"})


def _write_error(error: ApiError) -> ApiError:
    if error.tags[0] in _PROPERTY_ERRORS:
        return ApiError("properties_error", *error.tags, value=error.value)
    return ApiError("path", *error.tags, value=error.value)


def error_json(error: ApiError) -> dict[str, object]:
    """Return the nested tagged unions of an error ([errors])."""
    first, *rest = error.tags
    if rest:
        inner = error_json(ApiError(*rest, value=error.value))
        return {".tag": first, first: inner}
    if isinstance(error.value, dict):
        return {".tag": first, **error.value}
    return (
        {".tag": first} if error.value is None else {".tag": first, first: error.value}
    )


def summary_of(error: ApiError) -> str:
    """Return `error_summary`: for people, with dots that change ([errors])."""
    return "/".join(error.tags) + "/.."


def dumps(value: object) -> str:
    """Return JSON that a header can hold."""
    return json.dumps(value)


def _tag(value: Any) -> str:
    return str(value[".tag"]) if isinstance(value, dict) else str(value)


def _group_json(template_id: str, fields: Mapping[str, str]) -> dict[str, object]:
    shown = [{"name": name, "value": value} for name, value in fields.items()]
    return {"template_id": template_id, "fields": shown}


def _time(seconds: int) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> int:
    moment = datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")
    return int(moment.replace(tzinfo=datetime.UTC).timestamp())
