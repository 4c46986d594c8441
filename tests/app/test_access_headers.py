"""What every answer has and none has; and bodies that are too large."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from spinepaint.app.security_headers import ALWAYS
from spinepaint.settings import Settings
from tests.app.access_tools import Site, opened
from tests.app.conftest import problem_type


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    with opened(settings.model_copy(update={"max_body_bytes": 2000})) as site:
        yield site


def test_every_answer_has_the_headers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise RuntimeError

    client = site.nobody
    answers = [client.get("/v1/jobs"), client.get("/nowhere"), client.post("/v1/jobs", json={}), client.head("/v1/jobs")]
    answers += [client.options("/v1/jobs"), client.get("/health/live", headers={"Host": "evil.example"}), client.get("/metrics")]
    monkeypatch.setattr("spinepaint.store.ledger.Ledger.list_jobs", fail)
    answers.append(client.get("/v1/jobs"))
    site.key()
    answers.append(client.get("/v1/jobs"))
    assert [answer.status_code for answer in answers] == [200, 404, 422, 200, 204, 421, 200, 500, 401]
    for answer in answers:
        assert {name: answer.headers.get(name) for name in ALWAYS} == ALWAYS
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert "server" not in answer.headers


def test_a_page_may_run_what_it_comes_with_and_nothing_else() -> None:
    from starlette.responses import HTMLResponse

    from spinepaint.app.security_headers import SecurityHeaders

    policy = TestClient(SecurityHeaders(HTMLResponse("<p>"))).get("/").headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy
    own = HTMLResponse("<p>", headers={"Content-Security-Policy": "default-src 'self'", "Cache-Control": "max-age=60"})
    answer = TestClient(SecurityHeaders(own)).get("/")
    assert (answer.headers["content-security-policy"], answer.headers["cache-control"]) == ("default-src 'self'", "max-age=60")


def test_no_other_origin_is_told_that_it_may(site: Site) -> None:
    origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    own = {"Origin": "http://127.0.0.1:8000", "Access-Control-Request-Method": "POST"}
    for headers in (origin, own):
        for answer in (site.nobody.options("/v1/jobs", headers=headers), site.nobody.get("/v1/jobs", headers=headers)):
            assert not [name for name in answer.headers if name.startswith("access-control")]
    assert problem_type(site.nobody.options("/v1/jobs", headers=origin)) == "foreign-origin"


def test_bodies_of_json_are_capped(site: Site) -> None:
    over = b'{"pathology": "' + b"x" * 2000 + b'"}'
    json = {"Content-Type": "application/json"}
    for content in (over, iter([over[:1000], over[1000:]])):
        answer = site.nobody.post("/v1/jobs", content=content, headers=json)
        assert (answer.status_code, problem_type(answer)) == (413, "over-cap-max-body-bytes")
        assert "2000" in answer.json()["detail"]
    assert site.nobody.post("/v1/jobs", content=b"{" + b" " * 1998 + b"}", headers=json).status_code == 422
    lying = site.nobody.post("/v1/jobs", content=b"{}", headers=json | {"Content-Length": "999999999"})
    assert lying.status_code == 413


def test_compressed_json_is_not_inflated(site: Site) -> None:
    import gzip

    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = site.nobody.post("/v1/jobs", content=gzip.compress(b"{}"), headers=headers)
    assert (answer.status_code, problem_type(answer)) == (415, "unsupported-encoding")


def test_a_body_that_is_refused_for_its_key_is_not_parsed(site: Site) -> None:
    site.key()
    answer = site.nobody.post("/v1/jobs", content=b"x" * 100_000, headers={"Content-Type": "application/json"})
    assert (answer.status_code, problem_type(answer)) == (401, "no-key")
