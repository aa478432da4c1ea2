"""The OpenAPI document says what is really answered, errors too."""

from fastapi import FastAPI

from sinks.http.problems import Problem

_NOT_ANSWERED = "422"
"""What the framework would answer to a wrong parameter; here it is 400, as documented."""


def document(app: FastAPI) -> None:
    """`/openapi.json` is complete."""
    made = app.openapi()
    schemas = made["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop(_NOT_ANSWERED, None)
