"""The OpenAPI document: complete, true, and what is made up from it breaks nothing."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from contracts.errors import leaves
from sinks.http.problems import Problem
from tests.frames import FixedDetector
from tests.http_service import PATIENCE_S, Served, serving

PATHS = {
    ("/detect", "post"),
    ("/detect_batch", "post"),
    ("/healthz", "get"),
    ("/readyz", "get"),
    ("/v1/models", "get"),
    ("/v1/sources", "get"),
    ("/v1/sources", "post"),
    ("/v1/sources/{source_id}", "delete"),
    ("/v1/sources/{source_id}/pause", "post"),
    ("/v1/sources/{source_id}/resume", "post"),
}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(FixedDetector()) as one:
        yield one


@pytest.fixture(scope="module")
def document(served: Served) -> dict[str, Any]:
    answer = served.client.get("/openapi.json")
    assert answer.status_code == 200
    return dict(answer.json())


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def test_every_path_is_in_it_and_described(document: dict[str, Any]) -> None:
    found = {(path, method) for path, of_path in document["paths"].items() for method in of_path}
    assert found >= PATHS
    assert not [name for name, operation in operations(document) if not operation["description"]]


def test_every_error_in_it_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    by_code = {leaf.code: leaf for leaf in leaves()}
    seen = set()
    for name, operation in operations(document):
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/problem+json")
            if content is None:
                assert status < "400" or name == "get /readyz", (name, status)
                continue
            for code, example in content["examples"].items():
                problem = Problem.model_validate(example["value"])
                assert (problem.code, str(problem.status)) == (code, status)
                assert by_code[code].http_status == problem.status
                seen.add(code)
    assert seen >= {leaf.code for leaf in leaves() if leaf.http_status in (400, 413, 503, 504)} - {
        "url_not_allowed", "url_fetch_failed", "method_not_allowed"
    }  # fmt: skip


def test_it_says_nothing_of_what_is_never_answered(document: dict[str, Any]) -> None:
    assert not [name for name, operation in operations(document) if "422" in operation["responses"]]
    assert "HTTPValidationError" not in str(document)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_what_is_made_up_from_it_is_answered_as_it_says(
    served: Served, mode: GenerationMode
) -> None:
    """Right requests and wrong ones; Schemathesis checks that the answers are those documented."""
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
        def is_answered_as_documented(case: Any) -> None:
            # One that is short enough can't be kept, which is documented, and a 504.
            (case.headers or {}).pop("x-request-timeout-ms", None)
            # A file that is made up is no picture, and a URI that is leads nowhere.
            case.call_and_validate(timeout=PATIENCE_S, excluded_checks=[positive_data_acceptance])

        with contextlib.suppress(Unsatisfiable):  # Nothing in GET /healthz can be wrong.
            is_answered_as_documented()
    assert served.client.get("/readyz").status_code == 200
