# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests to a real socket, which a stand-in answers: how they travel, how often, and the one sentence for what goes wrong."""

from __future__ import annotations

import json
import pathlib
import socket
import threading
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_answers import HIDDEN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_pages import PAGE_SIZES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import errors, transport
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client, ServerVersion
from ansible_collections.metalfleet.gpustack.tests.mirror.mirror import make_certificates
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import (
    HTML,
    FakeServer,
    Place,
    Reply,
    Seen,
    running,
)

NOT_FOUND = Reply({"code": 404, "reason": "NotFound", "message": "Model not found"}, 404)
UNAUTHORIZED = Reply({"code": 401, "reason": "Unauthorized", "message": "Invalid authentication credentials"}, 401)
BUSY = Reply(HTML, 503, "text/html")
KEY = "gpustack_0123456789abcdef_0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> pathlib.Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def place() -> t.Iterator[Place]:
    with running(FakeServer()) as server:
        yield Place(server)


def send(client: Client, method: str, body: t.Any = None) -> t.Any:
    path = "/v1/models/1"
    if method == "GET":
        return client.get(path, {"secret": "query"})
    return client.delete(path) if method == "DELETE" else {"POST": client.post, "PUT": client.put}[method](path, body)


@pytest.fixture
def refusal(place) -> t.Callable[..., t.Any]:
    """What a request fails with, and that its sentence begins with the server."""

    def ask(kind: type[errors.ServerError], *replies: Reply, method: str = "GET", body: t.Any = None, **options: t.Any) -> t.Any:
        place.says(*replies)
        with pytest.raises(kind) as caught:
            send(place.client(**options), method, body)
        assert caught.type is kind
        assert str(caught.value).startswith(place.server.url)
        assert "query" not in str(caught.value)
        return caught.value

    return ask


def sentence(place: Place, error: errors.ServerError) -> str:
    return str(error).replace(place.server.url, "URL")


class TestRequests:
    def test_a_get_has_its_query_and_no_body(self, place):
        place.says(Reply({"a": 1}))
        assert place.client().get("/v1/x", {"page": 1, "name": "a b&ü"}) == {"a": 1}
        (seen,) = place.server.seen
        assert (seen.method, seen.path, seen.query, seen.body) == ("GET", "/v1/x", {"page": "1", "name": "a b&ü"}, None)
        assert (seen.headers["Accept"], seen.headers["Accept-Encoding"]) == ("application/json", "identity")
        assert seen.headers["User-Agent"] == "metalfleet.gpustack"
        assert "Authorization" not in seen.headers

    def test_a_path_below_which_the_server_is(self, place):
        place.says(Reply(1))
        assert place.client(server_url=f"{place.server.url}/gpustack").get("/v1/x") == 1
        assert place.server.seen[0].path == "/gpustack/v1/x"

    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_a_body_is_json(self, place, method):
        body = {"name": "Größe 模型", "replicas": 0}
        place.says(Reply(body))
        assert send(place.client(), method, body) == body
        (seen,) = place.server.seen
        assert (seen.method, seen.body, seen.headers["Content-Type"]) == (method, body, "application/json")

    def test_a_delete_answers_null(self, place):
        place.says(Reply(None))
        assert place.client().delete("/v1/models/1") is None
        assert (place.server.seen[0].method, place.server.seen[0].body) == ("DELETE", None)

    def test_an_answer_in_pieces(self, place):
        content = json.dumps(["x" * 700_000]).encode()
        place.says(Reply(content, chunked=True))
        assert place.client().get("/v1/x") == ["x" * 700_000]

    def test_basic_authentication(self, place):
        place.says(Reply(1))
        place.client(username="admin", password="Secret#12345").get("/v1/x")
        assert place.server.seen[0].headers["Authorization"] == "Basic YWRtaW46U2VjcmV0IzEyMzQ1"

    def test_an_api_key(self, place):
        place.says(Reply(1))
        place.client(api_key=KEY).get("/v1/x")
        assert place.server.seen[0].headers["Authorization"] == f"Bearer {KEY}"

    def test_netrc_is_nobodys_business(self, place, tmp_path, monkeypatch):
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login a password b\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
        place.says(Reply(1))
        place.client().get("/v1/x")
        assert "Authorization" not in place.server.seen[0].headers

    @pytest.mark.parametrize("use_proxy", [True, False])
    def test_the_proxy_of_the_environment(self, place, monkeypatch, use_proxy):
        monkeypatch.setenv("http_proxy", place.server.url)
        place.says(Reply("by the proxy"))
        client = place.client(server_url="http://gpustack.invalid", use_proxy=use_proxy, retries=0)
        if use_proxy:
            assert client.get("/v1/x") == "by the proxy"
        else:
            with pytest.raises(errors.UnreachableError):
                client.get("/v1/x")


class TestTls:
    @pytest.fixture
    def place(self, certificates) -> t.Iterator[Place]:
        with running(FakeServer(certificates)) as server:
            server.replies = [Reply("safe")]
            yield Place(server)

    def test_a_private_ca(self, place, certificates):
        assert place.client(ca_path=str(certificates / "ca.pem")).get("/v1/x") == "safe"

    def test_an_unknown_ca_is_refused_at_once(self, place):
        with pytest.raises(errors.UnreachableError) as caught:
            place.client(username="a", password="b").get("/v1/x")
        assert sentence(place, caught.value).startswith("URL: the server's certificate is not accepted (")
        assert str(caught.value).endswith("); name the certificate of its CA in ca_path")
        assert (place.server.seen, place.clock.pauses) == ([], [])

    def test_certificates_need_not_be_valid(self, place):
        assert place.client(validate_certs=False).get("/v1/x") == "safe"

    def test_no_tls_at_all(self):
        with running(FakeServer()) as server:
            url = server.url.replace("http:", "https:")
            client = Place(server).client(server_url=url)
            with pytest.raises(errors.UnreachableError) as caught:
                client.get("/v1/x")
        assert str(caught.value).startswith(f"{url}: no TLS with the server (")
        assert str(caught.value).endswith("); check the port, and write http:// in server_url if it speaks no TLS there")

    def test_a_handshake_that_just_ends_is_tried_again(self, place):
        with socket.create_server(("127.0.0.1", 0)) as other:
            other.settimeout(10)
            closing = threading.Thread(target=lambda: [other.accept()[0].close() for _attempt in range(3)])
            closing.start()
            with pytest.raises(errors.UnreachableError) as caught:
                place.client(server_url=f"https://127.0.0.1:{other.getsockname()[1]}").get("/v1/x")
            closing.join()
        assert ", tried 3 times within 3 seconds; " in str(caught.value)


class TestRetries:
    def test_what_reads_is_asked_again(self, place):
        place.says(Reply(hang_up=True), BUSY, Reply("at last"))
        assert place.client().get("/v1/x") == "at last"
        assert place.clock.pauses == [1.0, 2.0]

    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_a_proxy_without_a_server_is_asked_again(self, place, status):
        place.says(Reply(HTML, status, "text/html"), Reply(1))
        assert place.client().get("/v1/x") == 1

    @pytest.mark.parametrize("status", [400, 401, 404, 408, 429, 500, 501, 505])
    def test_other_refusals_are_final(self, place, refusal, status):
        place.says(Reply({"reason": "R", "message": "m"}, status), Reply(1))
        with pytest.raises(errors.ApiError):
            place.client().get("/v1/x")
        assert (len(place.server.seen), place.clock.pauses) == (1, [])

    @pytest.mark.parametrize(("method", "sent"), [("POST", {}), ("PUT", {}), ("DELETE", None)])
    @pytest.mark.parametrize("reply", [BUSY, Reply(hang_up=True)])
    def test_what_writes_is_sent_once(self, place, refusal, method, sent, reply):
        error = refusal(errors.UnreachableError, reply, Reply(1), method=method, body=sent)
        assert (len(place.server.seen), place.clock.pauses, error.unsure) == (1, [], True)

    def test_pauses_grow_to_a_limit(self, place, refusal):
        refusal(errors.UnreachableError, BUSY, retries=7)
        assert place.clock.pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]

    @pytest.mark.parametrize(("asked", "pause"), [("7", 7.0), ("0", 1.0), ("600", 30.0), ("Wed, 21 Oct 2026 07:28:00 GMT", 1.0)])
    def test_the_server_may_ask_for_a_longer_pause(self, place, asked, pause):
        place.says(Reply(HTML, 503, "text/html", {"Retry-After": asked}), Reply(1))
        place.client().get("/v1/x")
        assert place.clock.pauses == [pause]

    def test_no_retries(self, place, refusal):
        error = refusal(errors.UnreachableError, BUSY, retries=0)
        assert (len(place.server.seen), place.clock.pauses) == (1, [])
        assert "tried" not in str(error)


class TestSilence:
    def test_nobody_listens(self, place):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}"
            with pytest.raises(errors.UnreachableError) as caught:
                place.client(server_url=url).get("/v1/x")
            assert str(caught.value) == (
                f"{url}: GET /v1/x: no connection (Connection refused), tried 3 times within 3 seconds; "
                "check that GPUStack's server runs, then server_url, the firewall and the proxy"
            )
            with pytest.raises(errors.UnreachableError) as caught:
                place.client(server_url=url).put("/v1/x", {})
            assert str(caught.value) == (
                f"{url}: PUT /v1/x: no connection (Connection refused); "
                "check that GPUStack's server runs, then server_url, the firewall and the proxy"
            )
            assert caught.value.unsure is False

    def test_a_name_that_nobody_knows_was_not_asked(self, place):
        with pytest.raises(errors.UnreachableError) as caught:
            place.client(server_url="http://gpustack.invalid").post("/v1/x", {})
        assert caught.value.unsure is False

    def test_a_name_that_cannot_be(self, place):
        url = f"http://{'a' * 64}.example.com"
        with pytest.raises(BadInputError) as caught:
            place.client(server_url=url).get("/v1/x")
        assert str(caught.value).startswith(f"server_url: {url} cannot be asked (")
        assert str(caught.value).endswith("); correct it")

    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_a_server_that_says_nothing(self, place, refusal, method):
        error = refusal(errors.UnreachableError, Reply(silence_seconds=1.0), method=method, timeout_seconds=0.1, retries=0)
        assert (
            sentence(place, error)
            == {
                "GET": "URL: GET /v1/models/1: no answer (timed out); "
                "check that GPUStack's server runs, then server_url, the firewall and the proxy",
                "PUT": "URL: PUT /v1/models/1: no answer (timed out); whether the server did it is not known, so it is not asked again: "
                "run again when the server answers",
            }[method]
        )

    def test_a_call_may_have_a_limit_of_its_own(self, place):
        place.says(Reply(1, silence_seconds=0.3))
        client = place.client(timeout_seconds=0.1, retries=0)
        assert client.get("/v1/x", timeout_seconds=5.0) == 1
        assert client.post("/v1/x", {}, timeout_seconds=5.0) == 1
        assert client.put("/v1/x", {}, timeout_seconds=5.0) == 1
        assert client.delete("/v1/x", timeout_seconds=5.0) == 1
        with pytest.raises(errors.UnreachableError):
            client.delete("/v1/x")

    def test_an_answer_that_takes_too_long(self, place, refusal, monkeypatch):
        seconds = iter(range(0, 1000, 40))
        monkeypatch.setattr(place.clock, "monotonic", lambda: float(next(seconds)))
        error = refusal(errors.UnreachableError, Reply("x"), timeout_seconds=30, retries=0)
        assert ": the answer was not whole after 30 seconds (3 bytes were); " in str(error)

    def test_an_answer_without_end(self, place, refusal, monkeypatch):
        monkeypatch.setattr(transport, "_MOST_BYTES", 10)
        error = refusal(errors.UnreachableError, Reply("x" * 9), retries=0)
        assert ": the answer has more than 10 bytes; " in str(error)
        place.says(Reply("x" * 8))
        assert place.client().get("/v1/x") == "x" * 8

    @pytest.mark.parametrize(
        ("chunked", "words"),
        [(False, "the connection was cut after 5 of 13 bytes"), (True, "no answer (the connection was cut)")],
    )
    def test_a_connection_that_is_cut(self, place, refusal, chunked, words):
        error = refusal(errors.UnreachableError, Reply({"name": "x"}, cut_after_bytes=5, chunked=chunked), retries=0)
        assert sentence(place, error).startswith(f"URL: GET /v1/models/1: {words}; ")


class TestStrangeAnswers:
    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize(
        ("reply", "what"),
        [
            (Reply(HTML, content_type="text/html; charset=utf-8"), "an HTML page"),
            (Reply(b"  <html>", content_type="application/json"), "an HTML page"),
            (Reply(b""), "an empty answer"),
            (Reply(b" \n"), "an empty answer"),
            (Reply(b'{"items": [{"id": 1'), "an answer that was cut"),
            (Reply(b"[1, 2"), "an answer that was cut"),
            (Reply(b"[" * 100_000), "an answer that was cut"),
            (Reply(b"ok", content_type="text/plain"), "something"),
            (Reply(b"\xff\xfe"), "something"),
        ],
    )
    def test_no_json(self, place, refusal, reply, what, method):
        error = refusal(errors.StrangeAnswerError, reply, method=method)
        assert sentence(place, error) == (
            f"URL: {method} /v1/models/1: status 200 with {what} instead of JSON; "
            "look for a proxy or another service in between, and at server_url"
        )
        assert error.answer.startswith(f"HTTP 200 {reply.content_type}\n")
        assert error.unsure is (method == "POST")

    @pytest.mark.parametrize(("status", "unsure"), [(400, False), (401, False), (404, False), (499, False), (500, True), (501, True)])
    def test_a_refusal_that_is_not_gpustacks(self, place, refusal, status, unsure):
        error = refusal(errors.StrangeAnswerError, Reply(HTML, status, "text/html"), method="PUT")
        assert f"status {status} with an HTML page instead of JSON" in str(error)
        assert error.unsure is unsure

    @pytest.mark.parametrize("method", ["GET", "PUT"])
    def test_a_proxy_whose_server_is_away(self, place, refusal, method):
        error = refusal(errors.UnreachableError, BUSY, method=method)
        tried = ", tried 3 times within 3 seconds" if method == "GET" else ""
        assert sentence(place, error) == (
            f"URL: {method} /v1/models/1: status 503 from something that stands before GPUStack's server{tried}; check that the server runs"
        )
        assert error.answer == f"HTTP 503 text/html\n{HTML.decode()}"

    @pytest.mark.parametrize("method", ["GET", "POST"])
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_a_redirect_is_not_followed(self, place, refusal, status, method):
        with running(FakeServer()) as other:
            reply = Reply({"detail": "moved"}, status, headers={"Location": f"{other.url}/login?ticket=1"})
            error = refusal(errors.StrangeAnswerError, reply, method=method, body={}, username="admin", password="pw")
            assert sentence(place, error) == (
                f"URL: {method} /v1/models/1: it redirects to {other.url}/login, and credentials are not taken there; "
                "if GPUStack is there, write its address in server_url"
            )
            assert (other.seen, error.unsure) == ([], False)

    def test_a_redirect_to_nowhere(self, place, refusal):
        error = refusal(errors.StrangeAnswerError, Reply(b"", 302, headers={"Location": "/elsewhere"}))
        assert f"it redirects to {place.server.url}/elsewhere, and" in str(error)


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, errors.ApiError),
            (403, errors.ForbiddenError),
            (404, errors.NotFoundError),
            (409, errors.ConflictError),
            (422, errors.ApiError),
            (500, errors.ApiError),
        ],
    )
    @pytest.mark.parametrize("openai", [False, True])
    def test_both_shapes_of_gpustack(self, place, refusal, status, kind, openai):
        words = {"error": {"code": status, "type": "NotFound", "message": "m"}} if openai else {"reason": "NotFound", "message": "m"}
        error = refusal(kind, Reply(words, status), method="PUT")
        assert (error.status, error.reason, error.server_message) == (status, "NotFound", "m")
        assert error.answer == f"HTTP {status} application/json\n{json.dumps(words)}"
        assert error.unsure is (status == 500)

    def test_its_sentence(self, place, refusal):
        error = refusal(errors.NotFoundError, NOT_FOUND)
        assert sentence(place, error) == "URL: GET /v1/models/1: Model not found (status 404, NotFound)"

    def test_a_path_that_is_not_there_says_nothing_of_an_object(self, place, refusal):
        error = refusal(errors.ApiError, Reply({"detail": "Not Found"}, 404))
        assert sentence(place, error) == "URL: GET /v1/models/1: Not Found (status 404); the server has no such path, so check server_url"

    def test_nor_does_a_proxy(self, place, refusal):
        refusal(errors.ApiError, Reply({"message": "no Route matched with those values"}, 404))

    def test_the_servers_own_fault(self, place, refusal):
        error = refusal(
            errors.ApiError, Reply({"reason": "InternalServerError", "message": "Failed to update model: x"}, 500), method="PUT"
        )
        assert sentence(place, error) == (
            "URL: PUT /v1/models/1: Failed to update model: x (status 500, InternalServerError); look at the log of GPUStack's server"
        )

    def test_a_reason_to_wait_that_is_gpustacks_own(self, place, refusal):
        error = refusal(errors.ApiError, Reply({"reason": "ServiceUnavailable", "message": "m"}, 503))
        assert ": m (status 503, ServiceUnavailable), tried 3 times within 3 seconds; look at the log" in str(error)

    def test_an_empty_message(self, place, refusal):
        assert ": refused (status 400)" in str(refusal(errors.ApiError, Reply({"message": ""}, 400)))

    def test_no_rights(self, place, refusal):
        error = refusal(errors.ForbiddenError, Reply({"reason": "Forbidden", "message": "No permission to access"}, 403))
        assert sentence(place, error) == (
            "URL: GET /v1/models/1: No permission to access (status 403); use a user who is an admin, or an API key of one"
        )

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (
                {"username": "admin", "password": "Secret#12345"},
                "the server does not accept the password of user admin; check username and password",
            ),
            (
                {"api_key": KEY},
                "the server does not accept the API key: it is wrong, has expired or was deleted; make another and give it as api_key",
            ),
            ({}, "the server wants to know who asks; give username and password, or api_key"),
        ],
    )
    @pytest.mark.parametrize("reply", [UNAUTHORIZED, Reply({"detail": "Invalid authentication credentials"}, 401)])
    def test_wrong_credentials(self, place, refusal, options, words, reply):
        assert sentence(place, refusal(errors.CredentialsError, reply, **options)) == f"URL: {words}"


class TestSecrets:
    SECRET = 'Ge"heim ü'

    def test_none_of_the_connection_in_any_text(self, place, refusal):
        words = f"password {self.SECRET} in Basic YWRtaW46R2UiaGVpbSDDvA=="
        error = refusal(errors.ApiError, Reply({"reason": self.SECRET, "message": words}, 400), username="admin", password=self.SECRET)
        expected = f"password {HIDDEN} in Basic {HIDDEN}"
        assert (error.server_message, error.reason) == (expected, HIDDEN)
        assert sentence(place, error) == f"URL: GET /v1/models/1: {expected} (status 400, {HIDDEN})"
        assert error.answer == f'HTTP 400 application/json\n{{"reason": "{HIDDEN}", "message": "{expected}"}}'

    def test_no_key_in_a_page_or_a_redirect(self, place, refusal):
        key = "not-shaped-as-gpustacks"
        assert refusal(errors.StrangeAnswerError, Reply(f"<{key}>".encode()), api_key=key).answer.endswith(f"\n<{HIDDEN}>")
        reply = Reply(b"", 302, headers={"Location": f"/{key}"})
        assert f"/{HIDDEN}, and" in str(refusal(errors.StrangeAnswerError, reply, api_key=key))

    def test_no_environment_of_a_model(self, place, refusal):
        body = {"name": "a", "env": {"HF_TOKEN": "hf_12345678"}}
        reply = Reply({"reason": "Invalid", "message": f"'input': {body}, hf_12345678 is bad"}, 422)
        error = refusal(errors.ApiError, reply, method="POST", body=body)
        assert "hf_12345678" not in f"{error} {error.answer} {error.server_message}"
        assert error.server_message.endswith(f"{HIDDEN} is bad")

    def test_an_answer_is_kept_in_part(self, place, refusal):
        error = refusal(errors.StrangeAnswerError, Reply(b"<" + b"x" * 5000))
        assert len(error.answer) == 4096


def paged(items: t.Sequence[t.Any], total: int | None = None) -> t.Callable[[Seen], Reply]:
    def answer(seen: Seen) -> Reply:
        number, size = int(seen.query["page"]), int(seen.query["perPage"])
        part = items[size * (number - 1) : size * number]
        pagination = {"page": number, "perPage": size, "total": len(items) if total is None else total, "totalPage": 1}
        return Reply({"items": part, "pagination": pagination})

    return answer


class TestLists:
    @pytest.mark.parametrize(("count", "calls"), [(0, 1), (1, 1), (100, 1), (101, 2), (300, 3)])
    def test_all_pages(self, place, count, calls):
        items = [{"id": number} for number in range(count)]
        place.server.answer = paged(items)
        assert place.client().list("/v1/models", {"model_id": 5}) == items
        assert [seen.query for seen in place.server.seen] == [
            {"model_id": "5", "page": str(number), "perPage": "100"} for number in range(1, calls + 1)
        ]

    def test_a_list_that_changes_is_read_anew(self, place):
        items = [{"id": number} for number in range(250)]

        def answer(seen: Seen) -> Reply:
            if seen.query == {"page": "2", "perPage": "100"}:
                del items[10]
            return paged(items)(seen)

        place.server.answer = answer
        assert place.client().list("/v1/models") == items
        assert [seen.query["perPage"] for seen in place.server.seen] == ["100", "100", "97", "97", "97"]

    def test_a_list_that_never_is_whole(self, place):
        place.server.answer = paged([{"id": 1}], total=2)
        with pytest.raises(errors.StrangeAnswerError) as caught:
            place.client().list("/v1/models")
        assert sentence(place, caught.value) == (
            "URL: /v1/models could not be read whole in 5 attempts, because it changes all the time or its pages do not fit its total; "
            "run again when there is less going on"
        )
        assert len(place.server.seen) == 2 * len(PAGE_SIZES)

    @pytest.mark.parametrize(
        ("reply", "what"),
        [
            (Reply(None), "no page of a list"),
            (Reply({"items": [{"id": 1}], "pagination": {"page": 7, "total": 1}}), "page 7"),
        ],
    )
    def test_what_is_not_the_page_that_was_asked_for(self, place, reply, what):
        place.says(reply)
        with pytest.raises(errors.StrangeAnswerError) as caught:
            place.client().list("/v1/models")
        assert sentence(place, caught.value) == (
            f"URL: GET /v1/models gives {what} when asked for page 1; look for a cache or a proxy in between, and at server_url"
        )

    def test_a_total_that_cannot_be(self, place):
        place.server.answer = paged([{"id": 1}], total=100_001)
        with pytest.raises(errors.StrangeAnswerError) as caught:
            place.client().list("/v1/models")
        assert sentence(place, caught.value) == (
            "URL: GET /v1/models speaks of 100001 items, more than 100000 are not believed; look at the server's database"
        )

    def test_a_total_that_can_just_be(self, place):
        place.server.answer = paged([{"id": 1}], total=100_000)
        with pytest.raises(errors.StrangeAnswerError, match="could not be read whole"):
            place.client().list("/v1/models")

    def test_a_page_is_asked_for_again(self, place):
        items = [{"id": number} for number in range(150)]
        replies = [BUSY]
        place.server.answer = lambda seen: replies.pop() if replies and seen.query["page"] == "2" else paged(items)(seen)
        assert place.client().list("/v1/models") == items
        assert place.clock.pauses == [1.0]


class TestVersions:
    @pytest.mark.parametrize(("said", "text"), [("v0.6.0", "0.6.0"), ("v0.6.2", "0.6.2"), (" 0.7.1\n", "0.7.1")])
    def test_supported(self, place, said, text):
        place.says(Reply({"version": said, "git_commit": "899bea6"}))
        assert place.client().check_version() == ServerVersion(text)
        assert place.server.seen[0].path == "/version"

    def test_a_build_of_the_source_is_used_with_a_warning(self, place):
        place.says(Reply({"version": "0.0.0", "git_commit": "HEAD"}))
        version = place.client().check_version()
        assert version.text == "0.0.0"
        assert version.warning.replace(place.server.url, "URL").startswith("URL: GPUStack's version '0.0.0' says nothing; ")

    @pytest.mark.parametrize(("said", "reason"), [("v2.0.1", "since GPUStack 2 there is no llama-box"), ("v0.5.1", "the oldest is 0.6.0")])
    def test_refused(self, place, said, reason):
        place.says(Reply({"version": said}))
        with pytest.raises(errors.UnsupportedServerError) as caught:
            place.client().check_version()
        assert sentence(place, caught.value).startswith(f"URL: GPUStack {said[1:]} is not supported: {reason}")

    @pytest.mark.parametrize("said", [None, [], {}, {"version": 5}, {"version": None}])
    def test_a_server_that_says_no_version(self, place, said):
        place.says(Reply(said))
        with pytest.raises(errors.StrangeAnswerError) as caught:
            place.client().check_version()
        assert sentence(place, caught.value) == "URL is no GPUStack server, since GET /version gives no version; correct server_url"

    def test_a_server_that_refuses_to(self, place):
        place.says(Reply({"detail": "Not Found"}, 404))
        with pytest.raises(errors.StrangeAnswerError) as caught:
            place.client().check_version()
        assert sentence(place, caught.value) == "URL is no GPUStack server, since GET /version gives status 404; correct server_url"
        assert caught.value.answer == 'HTTP 404 application/json\n{"detail": "Not Found"}'

    def test_a_page_instead(self, place):
        place.says(Reply(HTML, content_type="text/html"))
        with pytest.raises(errors.StrangeAnswerError, match="with an HTML page instead of JSON"):
            place.client().check_version()
