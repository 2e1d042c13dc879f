# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models that answer, and models that fail to in every way, over a real socket with tiny limits."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import Entry, Limits, ProofRequest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import prover
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_stream import (
    CHAT,
    CUT,
    DONE,
    FINISH,
    FOREVER,
    NO_HEAD,
    USAGE,
    Script,
    Step,
    StreamServer,
    event,
    serving,
    whole,
)

KEY = "gpustack_0123456789abcdef_0123456789abcdef0123456789abcdef"
SHORT = 0.3
# What is to come in time comes within that on any machine. Where silence is tested, one of them is short.
LONG = 30.0
REQUEST = ProofRequest(prompt="Hello", limits=Limits(LONG, LONG, LONG))
IMPATIENT = Limits(SHORT, LONG, LONG)
STRICT = Limits(LONG, SHORT, LONG)
CHAT_PATH = "/v1-openai/chat/completions"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> t.Iterator[StreamServer]:
    with serving() as server:
        yield server


def prove(server: StreamServer, check_mode: bool = False, url: t.Optional[str] = None, **changes: t.Any) -> list[dict[str, t.Any]]:
    connection = Connection(server_url=server.url, api_key=KEY, timeout_seconds=5.0, retries=0)
    client = Client(connection)
    if url is not None:
        # The lists come from the one, the answers from the other.
        client._transport._connection = dataclasses.replace(connection, server_url=url)
        client.list = Client(connection).list  # type: ignore[method-assign]
    return prover.prove(client, dataclasses.replace(REQUEST, **changes), check_mode)


def only(server: StreamServer, *steps: Step, limits: Limits = REQUEST.limits) -> dict[str, t.Any]:
    server.add("m", Script(tuple(steps)))
    return prove(server, limits=limits)[0]


def verdict(server: StreamServer, *steps: Step, limits: Limits = REQUEST.limits) -> tuple[str, str]:
    result = only(server, *steps, limits=limits)
    return result["status"], result["reason"]


def test_a_chat(server):
    server.add("m")
    (result,) = prove(server, max_tokens=7)
    assert (result["status"], result["reason"], result["category"]) == ("answered", "", "llm")
    assert (result["tokens"], result["token_source"], result["engine_tokens_per_second"]) == (5, "usage", 8000.5)
    assert (result["workers"], result["requests"], result["answer_excerpt"]) == (["mac-1"], 1, "One, two")
    assert 0 < result["first_token_seconds"] <= result["seconds"]
    ((path, body),) = server.asked
    assert (path, body["model"], body["max_tokens"], body["stream"]) == (CHAT_PATH, "m", 7, True)
    (message,) = body["messages"]
    assert (message["role"], message["content"][0], message["content"][9:]) == ("user", "[", "] Hello")


@pytest.mark.parametrize("name", ["DeepSeek V3 «ü» 火", 'a"b\\c', "../../x?y=1"])
def test_any_name(server, name):
    server.add(name)
    assert [result["status"] for result in prove(server)] == ["answered"]
    assert server.asked[0][1]["model"] == name


def test_no_two_prompts_begin_alike(server):
    server.add("m")
    prove(server, requests=3)
    prompts = {body["messages"][0]["content"] for _path, body in server.asked}
    assert len(prompts) == 3


def test_each_running_instance_is_asked(server):
    server.add("m", running=3)
    assert prove(server)[0]["requests"] == 3
    assert len(server.asked) == 3


def test_after_silence_a_model_is_not_asked_again(server):
    server.add("m", Script(), Script((DONE,)), Script())
    (result,) = prove(server, requests=3)
    assert (result["status"], result["requests"]) == ("silent", 2)


def test_embeddings(server):
    server.add("e", whole({"data": [{"embedding": [0.25, -1]}]}), category="embedding")
    (result,) = prove(server)
    assert (result["status"], result["reason"], result["tokens"]) == ("answered", "", None)
    assert result["first_token_seconds"] == result["seconds"] > 0
    ((path, body),) = server.asked
    assert (path, body["input"][11:]) == ("/v1-openai/embeddings", "Hello")


def test_a_reranker(server):
    results = [{"index": index, "relevance_score": 0.5} for index in (1, 2, 0)]
    server.add("r", whole({"results": results}), whole({"results": results[:2]}), category="reranker")
    assert [result["status"] for result in prove(server)] == ["answered"]
    assert [result["reason"] for result in prove(server)] == ["the answer does not hold one result for each of 3 documents"]
    path, body = server.asked[0]
    assert (path, body["query"][11:], len(body["documents"])) == ("/v1/rerank", "Hello", 3)


@pytest.mark.parametrize("category", ["llm", "embedding", "reranker"])
@pytest.mark.parametrize("steps", [(NO_HEAD, FOREVER), (FOREVER,), (b" ", FOREVER), (b'data: {"choices":[]}\n\n', FOREVER)])
def test_silence(server, category, steps):
    server.add("m", Script(steps), category=category)
    (result,) = prove(server, limits=IMPATIENT)
    came = "no token came" if category == "llm" else "no whole answer came"
    assert (result["status"], result["reason"]) == ("silent", f"{came} within 0.3 seconds")
    assert (result["seconds"], result["first_token_seconds"], result["tokens_per_second"]) == (SHORT, None, None)


def test_what_comes_all_the_time_without_a_token_is_silence(server):
    keepalives = (b": keep-alive\n\n", 0.01) * 1000
    assert verdict(server, *keepalives, limits=IMPATIENT) == ("silent", "no token came within 0.3 seconds")


def test_a_first_token_that_is_late(server):
    assert verdict(server, SHORT * 3, *CHAT, limits=IMPATIENT) == ("silent", "no token came within 0.3 seconds")


def test_a_stream_that_stalls(server):
    result = only(server, event("One") + event(", two"), FOREVER, limits=STRICT)
    assert (result["status"], result["reason"]) == ("silent", "it fell silent after token 2: no other came within 0.3 seconds")
    assert (result["tokens"], result["token_source"], result["answer_excerpt"]) == (2, "chunks", "One, two")


def test_keepalives_do_not_hide_a_stall(server):
    keepalives = (b": keep-alive\n\n", 0.01) * 1000
    assert verdict(server, event("One"), *keepalives, limits=STRICT)[1].startswith("it fell silent after token 1:")


def test_a_slow_drip_is_read_for_a_while_and_measured(server):
    server.add("m", Script((*((event("x"), 0.05) * 1000),)))
    (result,) = prove(server, limits=Limits(LONG, LONG, 1.0), min_tokens_per_second=1000.0)
    assert result["status"] == "too_slow"
    assert result["reason"].endswith(" tokens per second, and at least 1000 are wanted")
    assert (result["token_source"], 0 < result["tokens_per_second"] < 1000) == ("chunks", True)
    (again,) = prove(server, limits=Limits(LONG, LONG, 1.0))
    assert (again["status"], again["reason"]) == ("answered", "stopped reading after 1 seconds")


def test_an_end_mark_is_enough(server):
    assert verdict(server, event("One") + FINISH, FOREVER, limits=STRICT) == ("answered", "")
    server.scripts["m"] = [Script((event("One"), DONE, FOREVER))]
    assert prove(server)[0]["status"] == "answered"


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ((), "the answer is empty"),
        ((DONE,), "the answer is empty"),
        ((FINISH, USAGE, DONE), "the answer is empty, though the engine counts 5 tokens"),
        ((event("\n\n"), event(" "), DONE), "the answer is nothing but blanks, 2 tokens of them"),
        ((event("One"),), "the answer was cut after token 1"),
        ((event({"role": "assistant"}),), "the answer was cut before the first token"),
        ((event("One"), CUT), "the answer was cut after token 1 (no answer (the connection was cut))"),
        ((CUT,), "the answer was cut before the first token (no answer (the connection was cut))"),
    ],
)
def test_answers_that_are_none(server, steps, reason):
    assert verdict(server, *steps) == ("silent", reason)


def test_a_connection_that_ends_before_the_head(server):
    status, reason = verdict(server, NO_HEAD, CUT)
    assert (status, reason[:42]) == ("silent", "the answer was cut before the first token ")


ERROR = {"error": {"code": 500, "type": "server_error", "message": f"out of memory, says {KEY}"}}


@pytest.mark.parametrize(
    "chunk",
    [
        f"data: {json.dumps(ERROR)}\n\n",
        f"error: {json.dumps(ERROR)}\n\n",
        json.dumps(ERROR),
    ],
)
@pytest.mark.parametrize("before", [(), (event("One"),)])
def test_an_error_in_the_stream(server, chunk, before):
    result = only(server, *before, chunk.encode())
    instead = "the rest" if before else "an answer"
    assert (result["status"], result["reason"]) == ("refused", f"an error instead of {instead}: out of memory, says ********")


@pytest.mark.parametrize("category", ["llm", "embedding", "reranker"])
@pytest.mark.parametrize(
    ("script", "words"),
    [
        (Script((b"<html>Hello</html>",), 200, "text/html"), "status 200 with an HTML page instead of JSON; look for a proxy"),
        (Script((b"<html>Busy</html>",), 503, "text/html"), "status 503 from something that stands before GPUStack's server"),
        (
            whole({"error": {"message": "No running instances available", "type": "ServiceUnavailable"}}, 503),
            "No running instances available",
        ),
        (whole({"code": 401, "reason": "Unauthorized", "message": "no"}, 401), "the server does not accept the API key"),
        (Script((b"",), 302), "it redirects to URL/"),
    ],
)
def test_refusals(server, category, script, words):
    server.add("m", script, category=category)
    (result,) = prove(server)
    assert result["status"] == "refused"
    assert words in result["reason"].replace(server.url, "URL")
    assert KEY not in json.dumps(result)


def test_a_refusal_that_does_not_end(server):
    server.add("m", Script((b'{"detail":"no', FOREVER), 502))
    (result,) = prove(server, limits=IMPATIENT)
    assert (result["status"], "status 502 from something" in result["reason"]) == ("refused", True)


def test_an_answer_of_another_kind(server):
    server.add("e", whole({"data": {}}), category="embedding")
    server.add("r", Script((b"null",)), category="reranker")
    server.add("c", whole({"choices": [{"message": {"content": "One"}}]}))
    assert [result["status"] for result in prove(server)] == ["refused"] * 3


def test_a_server_that_is_gone(server):
    server.add("m")
    (result,) = prove(server, url="http://127.0.0.1:1")
    assert (result["status"], result["reason"]) == ("refused", "no connection (Connection refused); check that GPUStack's server runs")


def test_a_server_that_speaks_no_tls(server):
    server.add("m")
    (result,) = prove(server, url=server.url.replace("http:", "https:"))
    assert (result["status"], "no TLS with the server" in result["reason"]) == ("refused", True)


def test_a_secret_does_not_come_back_in_an_answer(server):
    assert only(server, event(f"key {KEY}"), DONE)["answer_excerpt"] == "key ********"


def test_as_many_at_a_time_as_wanted(server):
    for number in range(4):
        server.add(f"m{number}", Script((0.1, *CHAT)))
    prove(server)
    assert server.most_busy == 1
    prove(server, concurrency=4)
    assert 2 <= server.most_busy <= 4


def test_nothing_is_sent_for_what_does_not_run(server):
    server.add("stopped", running=0)
    server.add("starting", running=0, replicas=1)
    server.add("left", running=1)
    server.add("picture", category="image")
    entries = {name: Entry(name, probe=name != "left") for name in ("left", "gone")}
    results = {result["name"]: result["status"] for result in prove(server, entries=entries)}
    expected = {"left": "skipped", "gone": "missing", "picture": "skipped", "starting": "not_running", "stopped": "skipped"}
    assert (results, server.asked) == (expected, [])


def test_check_mode_sends_nothing(server):
    server.add("m")
    (result,) = prove(server, check_mode=True)
    assert (result["status"], result["reason"], result["requests"]) == ("skipped", "nothing is sent in check mode", 0)
    assert server.asked == []
