# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of the module, with a GPUStack in memory behind a socket."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import model_options
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.plugins.modules import models
from ansible_collections.metalfleet.gpustack.tests.unit import server_modules
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import API_KEY, PASSWORD, MemoryGpustack
from ansible_collections.metalfleet.gpustack.tests.unit.memory_world import NO_WORKER, RUNS, downloading, failing
from ansible_collections.metalfleet.gpustack.tests.unit.model_runs import IN_ORDER, OTHER, SECRET, state_of
from ansible_collections.metalfleet.gpustack.tests.unit.plugins.module_utils._server.fake_server import FakeServer, Reply, Seen, running
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import GIB, Json
from ansible_collections.metalfleet.gpustack.tests.unit.whole_nodes import VERSION, lock_of

NAME = "Ünïcødé 模型 7b/q8 &?#%"
NEW: Json = {"name": NAME, "source": "local_path", "local_path": "/models/a model.gguf"}
WANTED: Json = {"name": "chat", **OTHER}


@pytest.fixture
def gpustack() -> MemoryGpustack:
    return MemoryGpustack()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, gpustack: MemoryGpustack, tmp_path: pathlib.Path) -> t.Iterator[t.Callable[..., Json]]:
    with running(FakeServer()) as server:
        server.answer = gpustack.answer
        monkeypatch.setattr(model_options, "Clock", lambda: gpustack.clock)

        def run_module(*wanted: Json, **options: t.Any) -> Json:
            who = {} if {"api_key", "username"} & set(options) else {"username": "admin", "password": PASSWORD}
            given = {"server_url": server.url, "_ansible_tmpdir": str(tmp_path), "models": list(wanted), **who, **options}
            return server_modules.run_module(monkeypatch, models, **given)

        yield run_module


# What a run does.


def test_a_model_is_created_changed_and_deleted(run, gpustack: MemoryGpustack) -> None:
    created = run({**NEW, "replicas": 2, "env": {"A": "ü b"}})
    (model,) = created["models"]
    assert (created["changed"], created["applied"], created["server_version"]) == (True, True, "0.6.2")
    assert (model["name"], model["action"], model["changed"]) == (NAME, "create", True)
    assert gpustack.running_with(NAME) == [["--no-mmap"], ["--no-mmap"]]
    assert created["progress"][-1] == f"{NAME}: 2 of 2 running"
    names = sorted(gpustack.names(NAME))
    changed = run({**NEW, "backend_parameters": ["--ctx-size=1"]})
    (model,) = changed["models"]
    assert (model["action"], model["restarted"], model["restart_pending"]) == ("update", names, [])
    assert gpustack.running_with(NAME) == [["--no-mmap", "--ctx-size=1"]] * 2
    writes = len(gpustack.writes)
    same = run({**NEW, "backend_parameters": ["--ctx-size=1"]})
    assert (same["changed"], same["diff"], same["progress"], len(gpustack.writes)) == (False, [], [], writes)
    deleted = run({"name": NAME, "state": "absent"})
    assert (deleted["models"][0]["action"], deleted["changed"], gpustack.models, gpustack.instances) == ("delete", True, {}, {})
    assert run({"name": NAME, "state": "absent"})["changed"] is False


def test_without_options_the_policy_is_applied_to_all_models(run, gpustack: MemoryGpustack) -> None:
    gpustack.add("a", backend_parameters=["--mmap"], env={"GGML_METAL_NO_RESIDENCY": "0", "HF_TOKEN": SECRET})
    gpustack.add("b", **IN_ORDER)
    result = run()
    by_name = {model["name"]: model for model in result["models"]}
    assert (by_name["a"]["fields"], by_name["a"]["env_changed"]) == (
        {"backend_parameters": ["--no-mmap"], "env": ["HF_TOKEN"]},
        ["GGML_METAL_NO_RESIDENCY"],
    )
    assert (by_name["a"]["cures"], by_name["b"]["cures"]) == (["--mmap was taken out", "GGML_METAL_NO_RESIDENCY was taken out of env"], [])
    assert "a: changed (backend_parameters, env); --mmap was taken out; GGML_METAL_NO_RESIDENCY was taken out of env" in result["progress"]
    assert (by_name["b"]["changed"], by_name["b"]["decision"]["flag"]) == (False, "--no-mmap")
    assert "verdicts" not in by_name["b"]["decision"]
    assert "GGML_METAL_NO_RESIDENCY" not in gpustack.started[gpustack.names("a")[0]]["env"]
    assert run()["changed"] is False


def test_all_models_false(run, gpustack: MemoryGpustack) -> None:
    gpustack.add("a", backend_parameters=["--mmap"])
    result = run(all_models=False)
    assert (result["models"], gpustack.running_with("a")) == ([], [["--mmap"]])


SCENES: t.Dict[str, t.Tuple[t.Tuple[Json, ...], Json]] = {
    "create": ((NEW,), {}),
    "create with all": (({**NEW, "replicas": 0, "env": {"A": "1"}, "secret_env": {"B": "2"}, "gpu_ids": ["mac-1:mps:0"]},), {}),
    "update": ((WANTED,), {}),
    "update env": (({"name": "chat", "env": {"A": "2", "C": "3"}},), {}),
    "update without restart": (({"name": "chat", "description": "x"},), {}),
    "replicas": (({"name": "chat", "replicas": 3},), {}),
    "never": ((WANTED,), {"restart": "never"}),
    "together": ((WANTED, {"name": "other", **OTHER}), {"restart": "together"}),
    "policy": ((), {}),
    "delete": (({"name": "chat", "state": "absent"},), {}),
    "nothing": (({"name": "chat"},), {"all_models": False}),
    "pending": (({"name": "stale"},), {"all_models": False}),
    "pending never": (({"name": "stale"},), {"all_models": False, "restart": "never"}),
}


@pytest.mark.parametrize("scene", list(SCENES))
def test_check_mode_announces_what_the_run_does_and_writes_nothing(run, gpustack: MemoryGpustack, scene: str) -> None:
    wanted, options = SCENES[scene]
    gpustack.add(replicas=2, env={"A": "1", "B": "1"}, **IN_ORDER)
    gpustack.add("other", backend_parameters=["--mmap"])
    gpustack.add("stale", **IN_ORDER)
    run({"name": "stale", "env": {"X": "1"}}, all_models=False, restart="never")
    before, writes = state_of(gpustack), len(gpustack.writes)
    announced = run(*wanted, _ansible_check_mode=True, **options)
    assert (state_of(gpustack), len(gpustack.writes), announced.pop("progress")) == (before, writes, [])
    done = run(*wanted, **options)
    done.pop("progress")
    assert (announced.pop("applied"), done.pop("applied")) == (False, True)
    assert announced == done
    assert done["changed"] is (scene not in ("nothing", "pending never"))
    assert bool(done["diff"]) is done["changed"]


# Options of a model.


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("description", "description", "for people"),
        ("replicas", "replicas", 0),
        ("categories", "categories", ["embedding"]),
        ("placement_strategy", "placement_strategy", "binpack"),
        ("cpu_offloading", "cpu_offloading", False),
        ("distributed_inference_across_workers", "distributed_inference_across_workers", False),
        ("worker_selector", "worker_selector", {"os": "darwin"}),
        ("gpu_ids", "gpu_selector", {"gpu_ids": ["mac-2:mps:0"]}),
        ("backend", "backend", "llama-box"),
        ("backend_version", "backend_version", "v0.0.139"),
        ("backend_parameters", "backend_parameters", ["--no-mmap", "--ctx-size=1"]),
        ("env", "env", {"A": "1"}),
        ("secret_env", "env", {"A": "1"}),
        ("restart_on_error", "restart_on_error", False),
    ],
)
def test_what_is_said_of_a_model_reaches_the_server(run, gpustack: MemoryGpustack, option: str, field: str, value: t.Any) -> None:
    given = value["gpu_ids"] if option == "gpu_ids" else value
    assert run({**NEW, option: given}, wait=False)["changed"] is True
    assert gpustack.model(NAME)[field] == value
    assert run({**NEW, option: given}, wait=False)["changed"] is False


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "huggingface", "huggingface_repo_id": "o/r", "huggingface_filename": "m*.gguf"},
        {"source": "ollama_library", "ollama_library_model_name": "qwen"},
        {"source": "model_scope", "model_scope_model_id": "o/r", "model_scope_file_path": "m.gguf"},
        {"source": "local_path", "local_path": "/m.gguf"},
    ],
)
def test_sources(run, gpustack: MemoryGpustack, fields: Json) -> None:
    run({"name": "new", **fields}, wait=False)
    assert {field: gpustack.model("new")[field] for field in fields} == fields


def test_weights_bytes_labels_and_force(run, gpustack: MemoryGpustack) -> None:
    gpustack.evaluation = lambda _spec: {"compatible": True, "resource_claim": None}
    heavy = {**NEW, "weights_bytes": 2000 * GIB}
    assert f"the model {NAME} needs 2000.0 GiB or more" in run(heavy)["msg"]
    override = {"mmap": "default", "labels": {"use": "rare"}, "reason": "rare"}
    result = run({**heavy, "force": True, "labels": {"use": "rare"}}, overrides=[override], wait=False)
    assert result["models"][0]["decision"]["reason"] == "overridden by labels use=rare: rare"


# Options of a run.


def test_restart_and_wait(run, gpustack: MemoryGpustack) -> None:
    gpustack.add(replicas=2, **IN_ORDER)
    names = sorted(gpustack.names())
    assert run(WANTED, restart="never")["models"][0]["restart_pending"] == names
    before = gpustack.clock.now
    gpustack.lives = lambda _model: NO_WORKER
    assert run(WANTED, wait=False)["models"][0]["restarted"] == names
    assert gpustack.clock.now == before


def test_one_by_one_is_the_default_and_together_is_not(run, gpustack: MemoryGpustack) -> None:
    gpustack.add(replicas=2, **IN_ORDER)
    run(WANTED)
    assert min(gpustack.running["chat"][1:]) == 1
    run({"name": "chat", **IN_ORDER}, restart="together")
    assert gpustack.running["chat"][-3] == 0


def test_wait_timeout_seconds(run, gpustack: MemoryGpustack) -> None:
    gpustack.lives = lambda _model: downloading(12.5)
    before = gpustack.clock.now
    result = run(NEW, wait_timeout_seconds=100)
    assert 100 <= gpustack.clock.now - before <= 110
    assert (result["failed"], result["changed"], result["models"][0]["action"]) == (True, True, "create")
    assert "downloading 12.5 %" in result["msg"]
    assert run(NEW, wait_timeout_seconds=0)["msg"] == "wait_timeout_seconds: 0 is too small; the least is 1"


def test_overrides_strict_lock_and_nodes(run, gpustack: MemoryGpustack) -> None:
    gpustack.add(**IN_ORDER)
    override = {"mmap": "mmap", "model": "chat"}
    assert run(overrides=[override], strict=True)["msg"].startswith("strict: the override by model name chat")
    result = run(overrides=[override], _ansible_check_mode=True)
    assert (result["models"][0]["decision"]["flag"], len(result["warned"])) == ("--mmap", 1)
    pin = {"name": "chat", "backend_version": "v0.0.140"}
    assert "is not in the lock file" in run(pin, lock=lock_of("Darwin"))["msg"]
    pin["backend_version"] = VERSION
    assert "is not known" in run(pin, lock=lock_of("Darwin"), _ansible_check_mode=True)["warned"][0]
    slots = [{"slot": "pinned", "pin": VERSION}]
    nodes = [{"name": f"mac-{number}", "node": {"installation": {"kind": "script"}, "llama_box": slots}} for number in (1, 2)]
    assert run(pin, lock=lock_of("Darwin"), nodes=nodes, _ansible_check_mode=True)["warned"] == []


@pytest.mark.parametrize(("option", "key"), [("can_upgrade_llama_box", "can_upgrade_llama_box"), ("spread_on_060", "spread_on_060")])
def test_what_the_policy_is_told(run, monkeypatch: pytest.MonkeyPatch, option: str, key: str) -> None:
    seen: list[t.Any] = []
    survey = model_options.survey
    monkeypatch.setattr(model_options, "survey", lambda client, request: seen.append(request) or survey(client, request))
    for value in (True, False):
        run(**{option: value})
    run()
    by_default = models.ARGUMENT_SPEC[option]["default"]
    assert [getattr(request, key) for request in seen] == [True, False, by_default]


def test_how_the_server_is_talked_to(run, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    seen: list[Connection] = []
    client = model_options.Client
    monkeypatch.setattr(model_options, "Client", lambda connection, clock: seen.append(connection) or client(connection, clock))
    options = {"validate_certs": False, "use_proxy": False, "timeout_seconds": 7, "retries": 1}
    run(api_key=API_KEY, **options)
    assert {name: getattr(seen[0], name) for name in options} == options
    assert (seen[0].api_key, seen[0].username) == (API_KEY, None)
    assert f"ca_path: {tmp_path}/no.pem cannot be read" in run(ca_path=f"{tmp_path}/no.pem")["msg"]
    assert run(username="admin")["msg"] == "parameters are required together: username, password"


# What goes wrong.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"models": [NEW, NEW]}, f"models has the model {NAME} twice"),
        ({"models": [{"name": "a", "state": "gone"}]}, "value of state must be one of: present, absent, got: gone"),
        ({"models": [{"name": "a", "size": 3}]}, "Unsupported parameters for "),
        ({"models": [{"name": "a"}]}, "the server has no model a, and to create it its source is needed"),
        ({"overrides": [{"mmap": "mmap"}]}, "override 1 of the mmap policy needs either the name of a model or labels"),
        ({"nodes": [{"name": "a"}, {"name": "a"}]}, "nodes: a is there more than once"),
        ({"lock": {}}, "lock: "),
        ({"retries": -1}, "retries: -1 is too small"),
        ({"password": "wrong-Passw0rd", "username": "admin"}, "{url}: the server does not accept the password of user admin"),
        ({"api_key": "gpustack_0000000000000000_00000000000000000000000000000000"}, "{url}: the server does not accept the API key"),
        ({"server_url": "http://127.0.0.1:9", "retries": 0}, "http://127.0.0.1:9: GET /version: no connection (Connection refused)"),
    ],
)
def test_bad_input_is_one_sentence_and_changes_nothing(run, gpustack: MemoryGpustack, options: Json, message: str) -> None:
    gpustack.add(**IN_ORDER)
    before = state_of(gpustack)
    result = run(_ansible_verbosity=3, **options)
    url = next((word for word in result["msg"].split() if word.startswith("http://127")), "").rstrip(":,")
    assert result["msg"].startswith(message.format(url=url))
    assert ("\n" in result["msg"], "Traceback" in result["msg"], state_of(gpustack)) == (False, False, before)
    assert "models" not in result


def test_what_the_server_refuses_is_told_exactly(run, gpustack: MemoryGpustack) -> None:
    gpustack.add(**IN_ORDER)
    wanted = {"name": "chat", "backend_parameters": ["--port=1"]}
    gpustack.version = "0.7.1"
    result = run(wanted)
    assert (result["failed"], result["changed"], "api_answer" in result) == (True, False, False)
    assert result["api_error"] == {"status": 400, "reason": "BadRequest", "message": "Setting the port using --port is not supported."}
    assert result["msg"].endswith("Setting the port using --port is not supported. (status 400, BadRequest)")
    assert (result["models"][0]["action"], result["models"][0]["restarted"], gpustack.running_with()) == (
        "update",
        [],
        [IN_ORDER["backend_parameters"]],
    )
    assert '"reason": "BadRequest"' in run(wanted, _ansible_verbosity=3)["api_answer"]


def test_a_failure_after_the_change_says_what_was_done(run, gpustack: MemoryGpustack) -> None:
    gpustack.add(**IN_ORDER)
    names = gpustack.names()
    gpustack.lives = lambda model: failing("exit 1", restarts=2) if "--bad" in model["backend_parameters"] else RUNS
    result = run({"name": "chat", "backend_parameters": ["--bad"]})
    assert result["msg"].endswith("exit 1; its parameters were put back, and it runs with them again")
    assert (result["failed"], result["models"][0]["restarted"], result["applied"]) == (True, names, True)
    assert "chat: its parameters are put back" in result["progress"]


def test_a_server_that_restarts_in_the_middle(run, gpustack: MemoryGpustack) -> None:
    gpustack.add(**IN_ORDER)
    left = [Reply(b"<html>", 502, "text/html"), Reply(hang_up=True), Reply(hang_up=True), Reply(b"<html>", 503, "text/html")]

    def restarts(seen: Seen) -> t.Optional[Reply]:
        return left.pop(0) if left and seen.method == "GET" and "DELETE" in " ".join(gpustack.writes) else None

    gpustack.before = restarts
    result = run(WANTED)
    assert (result.get("failed"), left, gpustack.running_with()) == (None, [], [OTHER["backend_parameters"]])


# Secrets.


@pytest.mark.parametrize("what", ["works", "refused", "fails", "strange", "unauthorized"])
@pytest.mark.parametrize("check_mode", [False, True])
def test_no_secret_is_shown(run, gpustack: MemoryGpustack, capfd, what: str, check_mode: bool) -> None:
    secrets = [f"{SECRET}-{number}" for number in range(4)]
    gpustack.add(env={"OLD": secrets[0], "HF_TOKEN": secrets[1]}, **IN_ORDER)
    wanted: Json = {"name": "chat", "env": {"HF_TOKEN": secrets[2]}, "secret_env": {"NEW": secrets[3]}}
    if what == "fails":
        gpustack.lives = lambda model: failing(restarts=2) if "NEW" in (model["env"] or {}) else RUNS
    if what == "refused":
        # The answer repeats the body.
        wanted["description"] = "x"
        gpustack.before = lambda seen: (
            Reply({"code": 422, "reason": "Invalid", "message": f"1 validation errors:\n {{'loc': ('body',), 'input': {seen.body}}}"}, 422)
            if seen.method == "PUT"
            else None
        )
    if what == "strange":
        gpustack.before = lambda seen: (
            Reply(f"<html>{json.dumps(seen.body)} {seen.headers.get('Authorization')}</html>".encode(), 500, "text/html")
            if seen.path != "/version" and (seen.method == "PUT" or check_mode)
            else None
        )
    options: Json = {"username": "admin", "password": PASSWORD}
    if what == "unauthorized":
        options = {"api_key": f"{API_KEY[:-1]}e"}
    result = run(wanted, _ansible_verbosity=3, _ansible_diff=True, _ansible_check_mode=check_mode, **options)
    assert (result.get("failed") is True) is (what == "unauthorized" or (what != "works" and (not check_mode or what == "strange")))
    everything = json.dumps(result, ensure_ascii=False) + "".join(capfd.readouterr())
    basic = t.cast(str, Connection("", username="admin", password=PASSWORD).authorization()).split()[1]
    for secret in (*secrets, SECRET, PASSWORD, API_KEY, API_KEY[:-1], basic):
        assert secret not in everything
    if not result.get("failed"):
        assert result["models"][0]["env_changed"] == ["HF_TOKEN", "NEW", "OLD"]
        (diff,) = result["diff"]
        assert 'env: ["HF_TOKEN", "OLD"]' in diff["before"]
        assert 'env: ["HF_TOKEN", "NEW"]' in diff["after"]
        # A value that is another shows as that.
        assert 'env.HF_TOKEN: "(a value)"' in diff["before"]
        assert 'env.HF_TOKEN: "(another value)"' in diff["after"]


def test_diffs(run, gpustack: MemoryGpustack) -> None:
    gpustack.add(replicas=2, description="old", **IN_ORDER)
    (diff,) = run({**WANTED, "description": "new", "gpu_ids": ["mac-1:mps:0"]})["diff"]
    assert (diff["before_header"], diff["after_header"]) == ("model chat", "model chat")
    assert 'backend_parameters: ["--no-mmap", "--ctx-size=4096"]\ndescription: "old"\ngpu_ids: []\ninstances: ["chat-' in diff["before"]
    assert diff["after"] == (
        'backend_parameters: ["--no-mmap", "--ctx-size=8192"]\ndescription: "new"\ngpu_ids: ["mac-1:mps:0"]\ninstances: "2 new"\n'
    )
    (diff,) = run(NEW, all_models=False)["diff"]
    assert (diff["before"], f'name: "{NAME}"\n' in diff["after"]) == ("", True)
    (diff,) = run({"name": NAME, "state": "absent"}, all_models=False)["diff"]
    assert (diff["before"], diff["after"]) == (f'model: "{NAME}"\n', "")


# What is watched.


def test_lines_are_written_where_the_action_plugin_reads_them(run, gpustack: MemoryGpustack, tmp_path: pathlib.Path) -> None:
    gpustack.lives = lambda _model: downloading(1.5, 50, 100)
    result = run(NEW)
    lines = (tmp_path / "metalfleet-progress").read_text("utf-8").splitlines()
    assert lines == result["progress"]
    assert any("downloading 50.0 %" in line for line in lines)
    # Nobody needs to be able to read them.
    result = run({**NEW, "name": "other"}, _ansible_tmpdir=f"{tmp_path}/gone")
    assert result["changed"] is True


# Documents.


def test_documents_say_what_is_so(run, gpustack: MemoryGpustack) -> None:
    assert server_modules.documented_options(models) == server_modules.specified_options(models)
    gpustack.add(**IN_ORDER)
    result = run(WANTED)
    assert server_modules.undocumented(models, {**result, "api_error": {"status": 1, "reason": "", "message": ""}}) == ["diff"]
