# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of the module, over a real socket. How answers fail is in test_prover.py."""

from __future__ import annotations

import contextlib
import io
import json
import typing as t

import pytest
import yaml
from ansible.module_utils import basic
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import OPTIONS
from ansible_collections.metalfleet.gpustack.plugins.modules import throughput
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_stream import (
    DONE,
    FOREVER,
    Script,
    StreamServer,
    event,
    serving,
    whole,
)

KEY = "gpustack_0123456789abcdef_0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "GPUSTACK_SERVER_URL", "GPUSTACK_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> t.Iterator[StreamServer]:
    with serving() as server:
        yield server


@pytest.fixture
def run(monkeypatch, server):
    def run_module(**options):
        words = {"server_url": server.url, "api_key": KEY, "retries": 0, **options}
        arguments = {"ANSIBLE_MODULE_ARGS": {"_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False, **words}}
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps(arguments).encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        warned: list[str] = []
        monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, warning: warned.append(warning))
        output = io.StringIO()
        with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as ended:
            throughput.main()
        assert KEY not in output.getvalue()
        result = json.loads(output.getvalue())
        assert bool(ended.value.code) is bool(result.get("failed"))
        result.pop("invocation", None)
        return {**result, "warned": warned}

    return run_module


def statuses(result: dict[str, t.Any]) -> dict[str, str]:
    return {model["name"]: model["status"] for model in result["models"]}


def test_without_options_all_models_are_asked(run, server):
    server.add("chat")
    server.add("vectors", whole({"data": [{"embedding": [1]}]}), category="embedding")
    server.add("voice", category="text_to_speech")
    result = run()
    assert statuses(result) == {"chat": "answered", "vectors": "answered", "voice": "skipped"}
    assert (result["changed"], result["failing"], result["summary"]) == (False, [], "2 of 3 models answered, 1 skipped")
    (prompt,) = (body["messages"][0]["content"] for path, body in server.asked if path.endswith("completions"))
    assert prompt.endswith("] Count from one to one hundred in words.")


def test_models_and_all_models(run, server):
    server.add("a")
    server.add("b")
    assert statuses(run(models=["b"])) == {"b": "answered"}
    asked = run(models=[{"name": "b", "probe": False}], all_models=True)
    assert statuses(asked) == {"b": "skipped", "a": "answered"}
    assert run(all_models=False)["models"] == []


def test_category(run, server):
    server.add("a", whole({"data": [{"embedding": [1]}]}))
    assert run(models=[{"name": "a", "category": "embedding"}])["models"][0]["category"] == "embedding"


def test_what_is_sent_how_often(run, server):
    server.add("a")
    assert run(prompt="Hello", max_tokens=9, requests=2)["models"][0]["requests"] == 2
    assert [(body["max_tokens"], body["messages"][0]["content"][11:]) for _path, body in server.asked] == [(9, "Hello")] * 2


def test_concurrency(run, server):
    for name in ("a", "b", "c"):
        server.add(name, Script((0.1, event("x"), DONE)))
    run()
    assert server.most_busy == 1
    run(concurrency=3)
    assert server.most_busy > 1


def test_limits_of_time(run, server):
    server.add("late", Script((FOREVER,)))
    server.add("stalls", Script((event("x"), FOREVER)))
    server.add("endless", Script((event("x") + event("y"), 0.01) * 10_000))
    result = run(first_token_timeout_seconds=0.3, models=["late"], fail=False)
    assert result["models"][0]["reason"] == "no token came within 0.3 seconds"
    result = run(stall_timeout_seconds=0.3, models=["stalls"], fail=False)
    assert result["models"][0]["reason"] == "it fell silent after token 1: no other came within 0.3 seconds"
    result = run(read_seconds=0.3, models=["endless"])
    assert result["models"][0]["reason"] == "stopped reading after 0.3 seconds"


def test_limits_of_speed(run, server):
    server.add("a", Script((event("x"), 1.0, event("y"), DONE)))
    assert statuses(run(min_tokens_per_second=0.1)) == {"a": "answered"}
    assert statuses(run(min_tokens_per_second=11, fail=False)) == {"a": "too_slow"}
    assert statuses(run(min_tokens_per_second=11, models=[{"name": "a", "min_tokens_per_second": 0}])) == {"a": "answered"}
    assert statuses(run(min_tokens_per_second=0, models=[{"name": "a", "max_first_token_seconds": 0}], fail=False)) == {"a": "too_slow"}


def test_below_one_token_per_second_a_model_is_too_slow_unless_told_otherwise(run, server):
    server.add("a", Script((event("x"), 2.5, event("y"), DONE)))
    assert statuses(run(fail=False)) == {"a": "too_slow"}
    assert statuses(run(min_tokens_per_second=0)) == {"a": "answered"}


def test_a_failure_names_each_model_and_returns_everything(run, server):
    server.add("good")
    server.add("mute 火", Script((DONE,)))
    server.add("down", running=0, replicas=1)
    result = run()
    assert result["msg"] == (
        "2 of 3 models do not answer as they should: down: not running, it has no instance, 1 wanted; mute 火: silent, the answer is empty"
    )
    assert (result["failed"], result["summary"], result["failing"]) == (True, result["msg"], ["down", "mute 火"])
    assert statuses(result) == {"down": "not_running", "good": "answered", "mute 火": "silent"}


def test_fail(run, server):
    server.add("mute", Script((DONE,)))
    result = run(fail=False)
    assert ("failed" not in result, result["failing"]) == (True, ["mute"])


def test_check_mode(run, server):
    server.add("good")
    server.add("down", running=0, replicas=1)
    result = run(_ansible_check_mode=True, models=["gone"], all_models=True)
    assert (statuses(result), server.asked) == ({"gone": "missing", "down": "not_running", "good": "skipped"}, [])
    assert result["failing"] == ["gone", "down"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": [5]}, "models[0] is a number;"),
        ({"requests": 0}, "requests: 0 is not within 1 and 1000;"),
        ({"timeout_seconds": 0}, "timeout_seconds: 0 is too small;"),
        ({"server_url": "http://127.0.0.1:1"}, "http://127.0.0.1:1: GET /version: no connection (Connection refused);"),
        ({"requests": "many"}, "argument 'requests' is of type"),
        ({"username": "admin"}, "parameters are required together: username, password"),
    ],
)
def test_bad_input_is_a_failure_with_its_reason(run, server, options, message):
    server.add("a")
    assert run(**options)["msg"].startswith(message)
    assert server.asked == []


def test_a_server_that_is_too_new(run, server):
    server.version = "v2.0.1"
    assert "2.0.1" in run()["msg"]


def test_a_server_of_which_something_is_to_be_known(run, server):
    server.version = "v0.7.1rc1"
    assert "0.7.1rc1 is not a plain release" in run()["warned"][0]


def test_documentation_and_argument_spec_say_the_same(run, server):
    documented = yaml.safe_load(throughput.DOCUMENTATION)["options"]
    assert {name: {key: value for key, value in option.items() if key != "description"} for name, option in documented.items()} == OPTIONS
    server.add("a")
    returned, documented = run(), yaml.safe_load(throughput.RETURN)
    assert set(returned) - {"changed", "warned"} == set(documented) - {"api_error"}
    assert list(returned["models"][0]) == list(documented["models"]["contains"])
