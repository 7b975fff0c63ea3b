"""The OpenAPI document as it is: every route may answer with a problem, and none with what FastAPI would say by itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from headrace.control.problems import PROBLEMS

_TEXT = {"type": "object", "required": ["en", "zh"], "properties": {"en": {"type": "string"}, "zh": {"type": "string"}}}
_FINDING = {
    "type": "object",
    "required": ["field", "code", "level", "cause", "remedy"],
    "properties": {
        "field": {"type": "string"},
        "code": {"type": "string"},
        "level": {"enum": ["error", "warning", "note"]},
        "cause": {"$ref": "#/components/schemas/Text"},
        "remedy": {"$ref": "#/components/schemas/Text"},
    },
}
_PROBLEM = {
    "type": "object",
    "description": "RFC 9457. `title` and `detail` are in the language that Accept-Language asks for.",
    "required": ["type", "status", "code", "title", "detail", "cause", "remedy", "fields"],
    "properties": {
        "type": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"enum": sorted(PROBLEMS)},
        "title": {"type": "string"},
        "detail": {"type": "string"},
        "cause": {"$ref": "#/components/schemas/Text"},
        "remedy": {"$ref": "#/components/schemas/Text"},
        "fields": {"type": "array", "items": {"$ref": "#/components/schemas/Finding"}},
    },
}
_SCHEMAS = {"Text": _TEXT, "Finding": _FINDING, "Problem": _PROBLEM}
_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
# What any route may answer; the codes that a status has are on the page of problems.
ANSWERS: dict[int | str, dict[str, Any]] = {
    status: {"description": "A problem: " + ", ".join(sorted(code for code, one in PROBLEMS.items() if one.status == status)), "content": _CONTENT}
    for status in sorted({one.status for one in PROBLEMS.values()})
}


def with_problems(app: FastAPI) -> FastAPI:
    """The application, whose document has the schemas of problems."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas.update(_SCHEMAS)
        for never in ("HTTPValidationError", "ValidationError"):
            schemas.pop(never, None)
        return document

    app.openapi = described  # type: ignore[method-assign]
    return app
