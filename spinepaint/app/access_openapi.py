"""Keys in the OpenAPI document."""

from typing import Any

from fastapi import FastAPI

from spinepaint.app.credentials import OPEN, required_scope
from spinepaint.app.openapi import OF_KEYS

_SCHEME = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "sp_<id>_<secret>",
    "description": "An API key of `spinepaint keys create`. A service on loopback for which none was made asks for none.",
}


def describe_access(app: FastAPI) -> None:
    """Have the document say of every operation that it needs a key, and with which scope."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        first = app.openapi_schema is None
        document = described()
        if first:
            document.setdefault("components", {})["securitySchemes"] = {"key": _SCHEME}
            for path, operations in document["paths"].items():
                for method, operation in operations.items():
                    scope = required_scope(method.upper(), path)
                    operation["security"] = [] if path in OPEN else [{"key": [] if scope is None else [scope.value]}]
                    if path not in OPEN:
                        operation["responses"] |= {str(status): answer for status, answer in OF_KEYS.items()}
        return document

    app.openapi = openapi  # type: ignore[method-assign]
