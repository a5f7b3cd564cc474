"""The hot operations on the wire: from parameters to headers, from answers to replies.

Parameters and replies have botocore's own names and shapes, and which header carries
which of them is read from botocore's model, once per operation; so a new version of it
brings its new parameters along, and all above cannot tell who sent a request. Only the
entries of a listing have a shape of their own (`s3_pages`), because they are so many.
"""

import base64
import datetime
import functools
import hashlib
import http.client
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from botocore.exceptions import ClientError
from botocore.model import OperationModel
from botocore.parsers import ResponseParserError, create_parser

from mountfs.backends._http import Answer, Source
from mountfs.backends.s3_pages import (
    Reply,
    Row,
    add_page,
    declares,
    local_name,
    moment,
    read_page,
    texts_of,
)

HOT: Mapping[str, str] = {
    "get_object": "GetObject",
    "head_object": "HeadObject",
    "put_object": "PutObject",
    "delete_object": "DeleteObject",
    "delete_objects": "DeleteObjects",
    "list_objects_v2": "ListObjectsV2",
    "copy_object": "CopyObject",
    "upload_part": "UploadPart",
    "upload_part_copy": "UploadPartCopy",
    "create_multipart_upload": "CreateMultipartUpload",
    "complete_multipart_upload": "CompleteMultipartUpload",
}
"""The operations that are sent without the SDK, and their names in the model."""

_META = "x-amz-meta-"
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_VERSIONED = frozenset({"PutObject", "UploadPart"})
_CUSTOMER_KEYS = frozenset({"SSECustomerKey", "CopySourceSSECustomerKey"})
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"


class Request(NamedTuple):
    """A request without its signature; `path` is that below the bucket."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes | Source


class Operation:
    """One hot operation, as the model describes it."""

    def __init__(self, model: OperationModel) -> None:
        self.name = model.name
        self.method: str = model.http["method"]
        uri, _, query = model.http["requestUri"].partition("?")
        self.has_key = "{Key+}" in uri
        self.has_body = model.has_streaming_input
        self.sends_checksum = bool(model.http_checksum.get("requestAlgorithmMember"))
        name, _, value = query.partition("=")
        self._fixed = [(name, value)] if query else []
        self._headers: dict[str, str] = {}
        self._query: dict[str, str] = {}
        self._told: dict[str, tuple[str, Callable[[str], object]]] = {}
        members = model.input_shape.members if model.input_shape else {}
        for member, shape in members.items():
            wire_name = shape.serialization.get("name", "")
            if shape.serialization.get("location") == "header":
                self._headers[member] = wire_name.lower()
            elif shape.serialization.get("location") == "querystring":
                self._query[member] = wire_name
        members = model.output_shape.members if model.output_shape else {}
        self._tells_metadata = "Metadata" in members
        for member, shape in members.items():
            if shape.serialization.get("location") == "header" and member != "Expires":
                convert = _CONVERSIONS.get(shape.type_name, str)
                self._told[shape.serialization["name"].lower()] = (member, convert)

    def request(self, parameters: Mapping[str, object]) -> Request:
        """Return the request with these parameters, none of which is None."""
        headers: dict[str, str] = {}
        pairs = list(self._fixed)
        body: bytes | Source = b""
        path = ""
        for name, value in parameters.items():
            if name in self._headers:
                self._add_header(headers, name, value)
            elif name in self._query:
                text = quote(_text(value), safe="-_.~")
                pairs.append((self._query[name], text))
            elif name == "Key":
                path = quote(str(value), safe="/~")
            elif name == "Body":
                body = value  # type: ignore[assignment]  # bytes or an ExactReader
            elif name == "Metadata":
                assert isinstance(value, Mapping)
                headers.update((_META + key, text) for key, text in value.items())
            elif name == "Delete":
                body = _deletion(value)  # type: ignore[arg-type]  # as botocore's
            elif name == "MultipartUpload":
                body = _completion(value)  # type: ignore[arg-type]  # as botocore's
            elif name != "Bucket":
                raise TypeError(f"{self.name} has no parameter {name}")
        query = "&".join(f"{name}={value}" for name, value in sorted(pairs))
        return Request(self.method, path, query, headers, body)

    def _add_header(self, headers: dict[str, str], name: str, value: object) -> None:
        header = self._headers[name]
        if name in _CUSTOMER_KEYS:
            assert isinstance(value, bytes)
            digest = hashlib.md5(value, usedforsecurity=False).digest()
            headers[f"{header}-md5"] = base64.b64encode(digest).decode()
        headers[header] = _text(value)

    def reply(self, answer: Answer) -> Reply:
        """Return the reply that botocore would make of an answer.

        Raises `ClientError` for an error, `ResponseParserError` for what is no answer.
        """
        if answer.status >= 300:
            raise _error(self.name, answer)
        try:
            reply = self._told_by(answer)
            if answer.body and self.name != "GetObject":
                self._add_body(reply, answer)
            self._check(reply, answer)
        except ElementTree.ParseError as error:
            raise _error(self.name, answer._replace(status=500)) from error
        except ValueError as error:
            raise ResponseParserError(f"no answer of S3: {error}") from error
        return reply

    def _check(self, reply: Reply, answer: Answer) -> None:
        """See that the server knows what it was asked. Raises `ValueError`."""
        if self.name in _VERSIONED and "ETag" not in reply:
            raise ValueError("it does not tell the ETag of what was written")
        if self.name in _IN_BODY and not answer.body:
            raise ValueError("it is empty")

    def _told_by(self, answer: Answer) -> Reply:
        """Return what the headers tell."""
        status, headers, _ = answer
        reply: Reply = {
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}
        }
        for header, value in headers.items():
            known = self._told.get(header)
            if known is not None:
                reply[known[0]] = known[1](value)
            elif self._tells_metadata and header.startswith(_META):
                reply.setdefault("Metadata", {})[header[len(_META) :]] = value
        return reply

    def _add_body(self, reply: Reply, answer: Answer) -> None:
        """Take in a body of XML, which may be an error although the status is 200."""
        if declares(answer.body):
            raise ValueError("it declares entities")
        rows: list[Row] = []
        if self.name == "ListObjectsV2":
            root, rows = read_page(answer.body)
        else:
            # S3 sends white space while it makes an object of parts.
            root = ElementTree.XML(answer.body.strip())
        if local_name(root.tag) == "Error":
            raise _error(self.name, answer._replace(status=500))
        if self.name == "ListObjectsV2":
            add_page(reply, root, rows)
        elif self.name in _RESULTS:
            add, member = _RESULTS[self.name]
            add(reply, member, root)


def _add_failures(reply: Reply, member: str, root: "ElementTree.Element[str]") -> None:
    if local_name(root.tag) != "DeleteResult":
        raise ValueError(f"it is a {root.tag}")
    failed = [each for each in root if local_name(each.tag) == "Error"]
    if failed:
        reply[member] = [texts_of(each) for each in failed]


def _add_copy(reply: Reply, member: str, root: "ElementTree.Element[str]") -> None:
    result: Reply = {**texts_of(root)}
    if "ETag" not in result:
        raise ValueError("the answer to a copy has no ETag")
    if "LastModified" in result:
        result["LastModified"] = moment(result["LastModified"])
    reply[member] = result


def _add_upload(reply: Reply, member: str, root: "ElementTree.Element[str]") -> None:
    told = texts_of(root).get(member)
    if not told:
        raise ValueError(f"the answer about an upload has no {member}")
    reply[member] = told


_RESULTS: Mapping[
    str, tuple[Callable[[Reply, str, "ElementTree.Element[str]"], None], str]
] = {
    "DeleteObjects": (_add_failures, "Errors"),
    "CopyObject": (_add_copy, "CopyObjectResult"),
    "UploadPartCopy": (_add_copy, "CopyPartResult"),
    "CreateMultipartUpload": (_add_upload, "UploadId"),
    "CompleteMultipartUpload": (_add_upload, "ETag"),
}
"""What takes in the body of an answer, and where a reply has it."""
_IN_BODY = frozenset(_RESULTS) - {"DeleteObjects"}


def _text(value: object) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case datetime.datetime():
            moment = value.astimezone(datetime.UTC)
            fraction = ".%f" if moment.microsecond else ""
            return moment.strftime(f"%Y-%m-%dT%H:%M:%S{fraction}Z")
        case Mapping():  # the source of a copy
            return quote(f"{value['Bucket']}/{value['Key']}", safe="-._~/")
        case _:
            raise TypeError(f"no header carries {value!r}")


def _deletion(wanted: Mapping[str, Any]) -> bytes:
    breaks = {"\r": "&#xD;", "\n": "&#xA;"}
    keys = "".join(
        f"<Object><Key>{escape(entry['Key'], breaks)}</Key></Object>"
        for entry in wanted["Objects"]
    )
    quiet = "<Quiet>true</Quiet>" if wanted.get("Quiet") else ""
    return f"<Delete {_NAMESPACE}>{keys}{quiet}</Delete>".encode()


def _completion(wanted: Mapping[str, Any]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{part['PartNumber']}</PartNumber>"
        f"<ETag>{escape(part['ETag'])}</ETag></Part>"
        for part in wanted["Parts"]
    )
    name = "CompleteMultipartUpload"
    return f"<{name} {_NAMESPACE}>{parts}</{name}>".encode()


def _error(name: str, answer: Answer) -> Exception:
    """Return the error that botocore would raise; its parser reads the body."""
    status, headers, body = answer
    if body and not declares(body):
        parsed = create_parser("rest-xml").parse(
            {"status_code": status, "headers": headers, "body": body},
            None,  # type: ignore[arg-type]  # errors have no shape in the model
        )
    else:
        reason = http.client.responses.get(status, "")
        parsed = {"Error": {"Code": str(status), "Message": reason}}
    metadata = parsed.setdefault("ResponseMetadata", {})
    metadata.update(HTTPStatusCode=status, HTTPHeaders=headers)
    return ClientError(parsed, name)


@functools.lru_cache(maxsize=256)
def http_date(text: str) -> datetime.datetime:
    """Return the moment that a header tells. Raises `ValueError`."""
    if text[:4].isdecimal():  # a date of an object lock
        return moment(text)
    month = _MONTHS.find(text[8:11]) // 3 + 1
    if len(text) == 29 and text.endswith(" GMT") and month:
        day, year = int(text[5:7]), int(text[12:16])
        hour, minute, second = int(text[17:19]), int(text[20:22]), int(text[23:25])
        return datetime.datetime(
            year, month, day, hour, minute, second, tzinfo=datetime.UTC
        )
    found = parsedate_to_datetime(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)


_CONVERSIONS: Mapping[str, Callable[[str], object]] = {
    "timestamp": http_date,
    "integer": int,
    "long": int,
    "boolean": lambda text: text.lower() == "true",
}
