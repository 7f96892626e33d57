"""What there is under ``/-/api/`` and besides for programs, in the words of OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ..config.values import RIGHTS
from ..records import ACTIONS, OUTCOMES
from ..site import VERSION

_TEXT = {"type": "string"}
_NUMBER = {"type": "integer", "minimum": 0}
_MAYBE_TEXT = {"type": ["string", "null"]}
_TEXTS = {"type": "array", "items": _TEXT}
_SAID = {"type": "object", "properties": {"said": _TEXT, "files": _TEXTS}, "required": ["said"]}
_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?$"},
    "description": "of a project",
}
_USER = {
    "name": "user",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": r"^[^:#/\\\s\x00-\x20\x7f-\xa0]{1,60}$"},
}
_VERSION = {
    "name": "version",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9.!+_-]{0,99}$"},
}
_PASSWORD = {"type": "string", "pattern": r"^[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,18}$"}
_INHERITS = {
    "type": "boolean",
    "description": "whether owners in an index that this one is based on count, as there are none here",
}
_FLAG = {"type": "string", "enum": ["0", "1"]}

_EVENT = {
    "type": "object",
    "properties": {
        "id": _NUMBER,
        "when": {"type": "string", "format": "date-time"},
        "action": {"enum": list(ACTIONS)},
        "outcome": {"enum": list(OUTCOMES)},
        **dict.fromkeys(("who", "token", "address", "client", "index", "project", "version", "reason"), _TEXT),
        "files": {"type": "array", "items": {"type": "object", "properties": {"name": _TEXT, "sha256": _MAYBE_TEXT}}},
    },
    "required": ["id", "when", "action", "outcome", "who"],
}
_TOKEN = {
    "type": "object",
    "properties": {
        "id": _NUMBER,
        "name": _TEXT,
        "user": {**_MAYBE_TEXT, "description": "null: of no user; it has exactly what it says"},
        "may": {"type": ["array", "null"], "items": {"enum": list(RIGHTS)}, "description": "null: all its user may"},
        "indexes": {**_TEXTS, "description": "empty, as the command line alone makes them: all, those added later too"},
        "projects": {**_TEXTS, "description": "names or patterns; empty: all"},
        "created": {"type": "string", "format": "date-time"},
        "by": _TEXT,
        "expires": {"type": ["string", "null"], "format": "date-time"},
        "used": {"type": ["string", "null"], "format": "date", "description": "the last day on which it was"},
    },
    "required": ["id", "name", "user", "may", "indexes", "projects", "created", "by", "expires", "used"],
}


def _limit(items: dict[str, Any], none: str) -> dict[str, Any]:
    """Of a token: a list that is left out, or null, where `none` is meant; never empty."""
    return {"type": ["array", "null"], "items": items, "minItems": 1, "description": f"left out: {none}"}


_WANTED = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"},
        "user": {
            "type": ["string", "null"],
            "minLength": 1,
            "description": "of others for admins alone; left out: of whoever asks; null: of no user",
        },
        "may": _limit({"enum": list(RIGHTS)}, "all that its user may"),
        "indexes": _limit(
            {"type": "string", "minLength": 1},
            "all there are now with these users, and for others or no user those of them that you administer",
        ),
        "projects": _limit({"type": "string", "pattern": "^[A-Za-z0-9._*?-]{1,100}$"}, "all"),
        "expires": {
            "type": ["string", "null"],
            "pattern": "^[1-9][0-9]{0,3}[smhdw]$",
            "description": "a span of time such as 90d; left out: never",
        },
    },
    "required": ["name"],
    "anyOf": [
        {"properties": {"user": {"type": "string"}}},
        {"properties": {"may": {"type": "array"}}, "required": ["may"]},
    ],
    "additionalProperties": False,
}
_FILE = {
    "type": "object",
    "properties": {
        "filename": _TEXT,
        "size": {"type": ["integer", "null"]},
        "hashes": {"type": "object", "additionalProperties": _TEXT},
        "uploaded": {"type": ["string", "null"], "format": "date-time"},
        "yanked": {**_MAYBE_TEXT, "description": "null: it is not; else the reason, which may be empty"},
    },
    "required": ["filename"],
}
_DAY = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}, "count": _NUMBER}}
_OVERVIEW = {
    "type": "object",
    "properties": {
        "index": _TEXT,
        "storage": {
            "type": ["object", "null"],
            "properties": {
                "projects": _NUMBER,
                "files": _NUMBER,
                "size": _NUMBER,
                "free": {"type": ["integer", "null"]},
            },
        },
        "read": {"type": "object", "properties": {"done": _NUMBER, "total": _NUMBER}},
        "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
        "downloads": {"type": "array", "items": _DAY},
        "most": {"type": "array", "items": {"type": "object", "properties": {"project": _TEXT, "count": _NUMBER}}},
        "upstreams": {"type": "array", "items": {"type": "object"}},
        "traffic": {"type": ["object", "null"]},
        "hits": {"type": ["number", "null"], "description": "which part of the upstreams' bytes came from the cache"},
        "cache": {"type": ["object", "null"]},
        "uptime": {"type": "integer", "description": "seconds"},
        "faults": {**_TEXTS, "description": "what cannot be said now"},
    },
    "required": ["index", "storage", "events", "downloads", "upstreams", "uptime", "faults"],
}


def _answer(schema: Mapping[str, Any], description: str = "as asked") -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _list_of(
    name: str, schema: Mapping[str, Any], more: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> dict[str, Any]:
    properties = {name: {"type": "array", "items": schema}, **more}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _body(schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _operation(
    name: str,
    summary: str,
    answer: Mapping[str, Any],
    *parameters: Mapping[str, Any],
    status: str = "200",
    body: Mapping[str, Any] | None = None,
    open: bool = False,
) -> dict[str, Any]:
    """One operation; what may be wrong is the same with all of them."""
    refused = {"$ref": "#/components/responses/Refused"}
    found: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {status: answer, "4XX": refused, "5XX": refused},
    }
    found |= {"parameters": list(parameters)} if parameters else {}
    found |= {"requestBody": body} if body is not None else {}
    return found | {"security": [{}, *_SECURITY]} if open else found


_SECURITY: list[dict[str, list[str]]] = [{"login": []}, {"token": []}, {"session": [], "form": []}]
_FIELDS = {name: {"name": name, "in": "query", "schema": _TEXT} for name in ("user", "project", "index")}


def _chosen(act: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(act), "additionalProperties": False}


def document(*, root: bool, cookie: str) -> dict[str, Any]:
    """All of it, for the index at the root or another one; `cookie` is that of who signed in, if anybody can."""
    here = {
        "/-/api/openapi.json": {
            "get": _operation("document", "this document", _answer({"type": "object"}), open=True),
        },
        "/-/api/me": {
            "get": _operation(
                "me",
                "who asks, and what they may here with one project at least",
                _answer(
                    {
                        "type": "object",
                        "properties": {
                            "user": _MAYBE_TEXT,
                            "token": _MAYBE_TEXT,
                            "may": {"type": "array", "items": {"enum": list(RIGHTS)}},
                        },
                        "required": ["user", "token", "may"],
                    }
                ),
                open=True,
            ),
        },
        "/-/api/overview": {
            "get": _operation(
                "overview",
                "how the index is; at the root, the server",
                _answer({"$ref": "#/components/schemas/Overview"}),
            ),
        },
        "/-/api/audit": {
            "get": _operation(
                "audit",
                "the audit trail, the newest first",
                _answer(
                    _list_of("events", {"$ref": "#/components/schemas/Event"}, {"next": {"type": ["integer", "null"]}}),
                    "events, and for the next page what to ask with before=",
                ),
                {"name": "since", "in": "query", "schema": {"type": "string", "pattern": "^([0-9]{1,4}[smhdw])?$"}},
                *_FIELDS.values(),
                {"name": "action", "in": "query", "schema": {"enum": list(ACTIONS)}},
                {"name": "outcome", "in": "query", "schema": {"enum": list(OUTCOMES)}},
                {"name": "before", "in": "query", "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1}},
                {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000}},
            ),
        },
        "/-/api/names": {
            "get": _operation(
                "names",
                "names that are the index's own without having files any more",
                _answer(_list_of("names", _TEXT)),
            ),
        },
        "/-/api/names/{name}": {
            "delete": _operation("releaseName", "let it be looked for upstream again", _answer(_SAID), _NAME),
        },
        "/-/api/owners/{name}": {
            "get": _operation(
                "owners",
                "who owns a project in this index",
                _answer(_list_of("owners", _TEXT, {"name": _TEXT, "inherits": _INHERITS})),
                _NAME,
            ),
        },
        "/-/api/owners/{name}/{user}": {
            "put": _operation("addOwner", "have a user own it too", _answer(_SAID), _NAME, _USER),
            "delete": _operation("removeOwner", "have a user own it no more", _answer(_SAID), _NAME, _USER),
        },
        "/-/api/projects/{name}/{version}": {
            "get": _operation(
                "release",
                "the files of a release that the index itself has",
                _answer(_list_of("files", _FILE, {"name": _TEXT, "version": _TEXT})),
                _NAME,
                _VERSION,
                open=True,
            ),
        },
        "/-/api/projects/{name}/{version}/yank": {
            "post": _operation(
                "yank",
                "have installers pass it over",
                _answer(_SAID),
                _NAME,
                _VERSION,
                body=_body(_chosen({"reason": _TEXT}), required=False),
            ),
        },
        "/-/api/projects/{name}/{version}/unyank": {
            "post": _operation("unyank", "have installers take it again", _answer(_SAID), _NAME, _VERSION),
        },
        "/-/api/projects/{name}/{version}/push": {
            "post": _operation(
                "push",
                "publish it in another index too",
                _answer(_SAID),
                _NAME,
                _VERSION,
                body=_body({**_chosen({"to": _TEXT}), "required": ["to"]}, required=True),
            ),
        },
        "/-/api/projects/{name}/{version}/remove": {
            "post": _operation("remove", "delete its files", _answer(_SAID), _NAME, _VERSION),
        },
        "/-/api/tokens": {
            "get": _operation(
                "tokens",
                "one's own tokens; with all=1 those of everybody, for admins of the index at the root",
                _answer(_list_of("tokens", {"$ref": "#/components/schemas/Token"})),
                {"name": "all", "in": "query", "schema": _FLAG},
            ),
            "post": _operation(
                "createToken",
                "make a token; its secret is in this answer alone",
                _answer(
                    {
                        "allOf": [
                            {"$ref": "#/components/schemas/Token"},
                            {"type": "object", "properties": {"secret": _TEXT}, "required": ["secret"]},
                        ]
                    },
                    "made",
                ),
                status="201",
                body=_body(_WANTED, required=True),
            ),
        },
        "/-/api/tokens/{id}": {
            "delete": _operation(
                "revokeToken",
                "end a token",
                _answer(_SAID),
                {
                    "name": "id",
                    "in": "path",
                    "required": True,
                    "schema": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
                },
            ),
        },
    }
    users = {
        "/-/api/users": {
            "get": _operation(
                "users",
                "who can log in, and what they may at the root",
                _answer(
                    _list_of(
                        "users",
                        {
                            "type": "object",
                            "properties": {
                                "name": _TEXT,
                                "locked": {"type": "boolean"},
                                "may": {"type": "object", "additionalProperties": _TEXT},
                            },
                            "required": ["name", "locked", "may"],
                        },
                    )
                ),
            ),
        },
        "/-/api/users/{user}": {
            "put": _operation(
                "setPassword",
                "give a user another password, or make the user",
                _answer(_SAID),
                _USER,
                body=_body({**_chosen({"password": _PASSWORD}), "required": ["password"]}, required=True),
            ),
            "delete": _operation("deleteUser", "have a user log in no more", _answer(_SAID), _USER),
        },
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pypiserver-lite",
            "version": VERSION,
            "description": "Administration of a package index. Uploads are the legacy upload API's, to /.",
        },
        "servers": [{"url": "../../", "description": "this index"}],
        "security": _SECURITY,
        "paths": {**here, **(users if root else {})},
        "components": {
            "schemas": {"Event": _EVENT, "Token": _TOKEN, "Overview": _OVERVIEW},
            "responses": {
                "Refused": _answer(
                    {"type": "object", "properties": {"error": _TEXT}, "required": ["error"]},
                    "what is wrong, and what to do",
                ),
            },
            "securitySchemes": {
                "login": {
                    "type": "http",
                    "scheme": "basic",
                    "description": "a user and password, or __token__ and a token",
                },
                "token": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": cookie or "none",
                    "description": "of the page for signing in",
                },
                "form": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-CSRF-Token",
                    "description": "of a form of the session; for what is no GET",
                },
            },
        },
    }
