"""The hot operations on the wire: from parameters to headers, from answers to replies.

Parameters and replies have botocore's own names and shapes. Its serializer makes the
requests; which header of an answer is which member of a reply is read from its model,
once per operation, because its parser takes longer than all the rest of a request. So a
new version of it brings its new parameters along, and all above cannot tell who sent a
request. Only the entries of a listing have a shape of their own (`s3_pages`).
"""

import copy
import http.client
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from botocore.exceptions import ClientError
from botocore.model import OperationModel
from botocore.parsers import ResponseParserError, create_parser
from botocore.serialize import create_serializer

from mountfs.backends._http import Answer, Source
from mountfs.backends.s3_pages import (
    Reply,
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

_TOLD_BY_WRITES: Mapping[str, str] = {
    "PutObject": "ETag",
    "CopyObject": "ETag",
    "UploadPart": "ETag",
    "UploadPartCopy": "ETag",
    "CreateMultipartUpload": "UploadId",
    "CompleteMultipartUpload": "ETag",
}
"""What an answer tells, unless it is the page of some web server."""
_CONVERSIONS: Mapping[str, Callable[[str], object]] = {
    "timestamp": moment,
    "integer": int,
    "long": int,
    "boolean": lambda text: text.lower() == "true",
}
_LISTS: Mapping[str, str] = {"CommonPrefixes": "CommonPrefixes", "Error": "Errors"}
"""The elements in a body of which there are many, and the members that hold them."""
_META = "x-amz-meta-"
_SERIALIZER = create_serializer("rest-xml", include_validation=False)


class Request(NamedTuple):
    """A request without its signature; `path` is that below the bucket."""

    path: str
    query: str
    headers: dict[str, str]
    body: bytes | Source


class Operation:
    """One hot operation, as the model describes it."""

    def __init__(self, model: OperationModel) -> None:
        self.name = model.name
        self.method: str = model.http["method"]
        self.has_body = model.has_streaming_input
        self.sends_checksum = bool(model.http_checksum.get("requestAlgorithmMember"))
        # The path is made here: the serializer would fill in three templates for it.
        self._model = copy.copy(model)
        self._model.http = {"method": self.method, "requestUri": "/"}
        name, _, value = model.http["requestUri"].partition("?")[2].partition("=")
        self._fixed_query = {name: value} if name else {}
        shape = model.output_shape
        members = shape.members if shape else {}
        self._payload: str = shape.serialization.get("payload", "") if shape else ""
        self._tells_metadata = "Metadata" in members
        self._in_headers: dict[str, tuple[str, Callable[[str], object]]] = {}
        self._in_body: dict[str, Callable[[str], object]] = {}
        for member, kind in members.items():
            place = kind.serialization.get("location")
            convert = _CONVERSIONS.get(kind.type_name, str)
            if place == "header" and member != "Expires":
                header = kind.serialization["name"].lower()
                self._in_headers[header] = (member, convert)
            elif place is None and kind.type_name in {"string", "boolean"}:
                self._in_body[member] = convert

    def request(self, parameters: Mapping[str, object]) -> Request:
        """Return the request with these parameters, none of which is None."""
        ready: dict[str, Any] = {**parameters}
        if source := ready.get("CopySource"):
            path = f"{source['Bucket']}/{source['Key']}"
            ready["CopySource"] = quote(path, safe="-._~/")
        expires, deletion = ready.pop("Expires", None), ready.pop("Delete", None)
        made = _SERIALIZER.serialize_to_request(ready, self._model)
        headers = {name.lower(): text for name, text in made["headers"].items()}
        if expires is not None:  # any text; botocore knows only well-formed dates
            headers["expires"] = expires
        pairs = sorted({**self._fixed_query, **made["query_string"]}.items())
        query = "&".join(f"{name}={quote(str(v), safe='-_.~')}" for name, v in pairs)
        body = made["body"] if deletion is None else _deletion(deletion)
        return Request(quote(ready.get("Key", ""), safe="/~"), query, headers, body)

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
        except ElementTree.ParseError as error:
            raise _error(self.name, answer._replace(status=500)) from error
        except ValueError as error:
            raise ResponseParserError(f"no answer of S3: {error}") from error
        told = _TOLD_BY_WRITES.get(self.name)
        if told and not reply.get(self._payload, reply).get(told):
            raise ResponseParserError(f"no answer of S3: it does not tell the {told}")
        return reply

    def _told_by(self, answer: Answer) -> Reply:
        """Return what the headers tell."""
        status, headers, _ = answer
        reply: Reply = {
            "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers}
        }
        for header, value in headers.items():
            known = self._in_headers.get(header)
            if known is not None:
                reply[known[0]] = known[1](value)
            elif self._tells_metadata and header.startswith(_META):
                reply.setdefault("Metadata", {})[header[len(_META) :]] = value
        return reply

    def _add_body(self, reply: Reply, answer: Answer) -> None:
        """Take in a body of XML, which may be an error although the status is 200."""
        if declares(answer.body):
            raise ValueError("it declares entities")
        if self.name == "ListObjectsV2":
            root, reply["Rows"] = read_page(answer.body)
        else:
            # S3 sends white space while it makes an object of parts.
            root = ElementTree.XML(answer.body.strip())
        kind = local_name(root.tag)
        if kind == "Error":
            raise _error(self.name, answer._replace(status=500))
        if self.name == "DeleteObjects" and kind != "DeleteResult":
            raise ValueError(f"it is a {kind}")
        if self._payload:
            result: Reply = {**texts_of(root)}
            if "LastModified" in result:
                result["LastModified"] = moment(result["LastModified"])
            reply[self._payload] = result
        for each in root:
            name = local_name(each.tag)
            if name in self._in_body:
                reply[name] = self._in_body[name](each.text or "")
            elif name in _LISTS:
                reply.setdefault(_LISTS[name], []).append(texts_of(each))


def _deletion(wanted: Mapping[str, Any]) -> bytes:
    """Return what names the keys, in a tenth of the time that the serializer takes."""
    breaks = {"\r": "&#xD;", "\n": "&#xA;"}
    keys = "".join(
        f"<Object><Key>{escape(entry['Key'], breaks)}</Key></Object>"
        for entry in wanted["Objects"]
    )
    quiet = "<Quiet>true</Quiet>" if wanted.get("Quiet") else ""
    namespace = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    return f"<Delete {namespace}>{keys}{quiet}</Delete>".encode()


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
