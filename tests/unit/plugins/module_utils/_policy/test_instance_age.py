# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.instance_age import (
    MARK,
    command_line,
    is_marked,
    marked,
    runs_with,
    suspects,
    unmarked,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import Instance, parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_model import Model, parse_model

# The mark.


def instance(name: str = "chat-0DQro", pid: int | None = 90, **changes: t.Any) -> Instance:
    return Instance(**{"name": name, "pid": pid, "worker_id": 1, "state": "running", **changes})


def model(**changes: t.Any) -> Model:
    return Model(**{"name": "chat", "backend": "llama-box", **changes})


def test_a_mark_is_a_variable_with_the_instances_and_their_processes() -> None:
    found = marked({"A": "1"}, [instance("chat-Zz9", 8), instance()])
    assert found == {"A": "1", "METALFLEET_INSTANCES_BEFORE": "0DQro:90 Zz9:8"}
    assert marked({}, [instance("a-b c-0DQro")]) == {MARK: "0DQro:90"}


def test_a_mark_takes_the_place_of_another() -> None:
    assert marked({MARK: "x:1", "A": "1"}, [instance()]) == {MARK: "0DQro:90", "A": "1"}
    assert marked({MARK: "x:1", "A": "1"}, []) == {"A": "1"}


def test_an_instance_that_no_process_runs_needs_no_mark() -> None:
    assert marked({}, [instance(pid=None)]) == {}
    assert marked({}, [instance(pid=None), instance("chat-b", 0)]) == {MARK: "b:0"}


def test_an_environment_without_its_mark() -> None:
    env = {MARK: "x:1", "A": "1"}
    assert unmarked(env) == {"A": "1"}
    assert unmarked({"A": "1"}) == {"A": "1"}
    assert env == {MARK: "x:1", "A": "1"}


@pytest.mark.parametrize("name", ["chat-0DQro", "my chat-0DQro", "Ünïcødé 模型-0DQro", "a-b-0DQro", "0DQro"])
def test_marked_instances_are_known_again(name: str) -> None:
    one, other = instance(name), instance("my chat-b", 91)
    env = marked({}, [one, other])
    assert is_marked(model(env=env), one)
    assert is_marked(model(env=env), other)
    assert is_marked(model(env=marked({}, [one])), one)
    assert not is_marked(model(env=marked({}, [other])), one)


@pytest.mark.parametrize(
    "other",
    [
        instance("chat-Zz9"),
        # The worker has started it anew, so that it read what there is now.
        instance(pid=91),
        instance(pid=9),
        instance(pid=None),
        instance("chat-DQro"),
        instance("chat-0DQro90", None),
        Instance(),
    ],
)
def test_what_came_after_a_mark_is_not_marked(other: Instance) -> None:
    assert not is_marked(model(env=marked({}, [instance()])), other)


@pytest.mark.parametrize("env", [None, {}, {"A": "0DQro:90"}, {MARK: ""}])
def test_without_a_mark_nothing_is_marked(env: dict[str, str] | None) -> None:
    assert not is_marked(model(env=env), instance())
    assert not is_marked(model(env=env), instance("", None))
    assert not is_marked(model(env=env), Instance())


# Who is suspected.

NOON = "2026-11-22T12:00:00Z"


def at(seconds: int) -> str:
    return f"2026-11-22T12:{seconds // 60:02d}:{seconds % 60:02d}Z"


def test_marked_instances_are_suspects_and_others_are_not() -> None:
    old, new = instance(), instance("chat-b", 91)
    assert suspects(model(env=marked({}, [old])), [old, new]) == [old]
    assert suspects(model(), [old, new]) == []
    assert suspects(model(env=marked({}, [old])), [new]) == []


def test_a_marked_instance_of_another_backend_is_one_too() -> None:
    old = instance()
    assert suspects(model(backend="vllm", env=marked({}, [old])), [old]) == [old]


@pytest.mark.parametrize(
    ("changed", "events", "suspected"),
    [
        # The server writes to the model within seconds of what happens to an instance.
        (at(0), [at(0)], False),
        (at(10), [at(0)], False),
        (at(11), [at(0)], True),
        (at(0), [at(59)], False),
        (at(60), [at(0), at(50)], False),
        (at(61), [at(0), at(50)], True),
        (at(61), [at(50), None], True),
        # What is not known tells nothing.
        (None, [at(0)], False),
        ("", [at(0)], False),
        ("yesterday", [at(0)], False),
        (at(60), [None], False),
        (at(60), [None, "?"], False),
        (at(60), [], False),
        # Other spellings of times.
        ("2026-11-22T12:00:10.900000Z", [at(0)], True),
        ("2026-11-22T14:00:10+02:00", [at(0)], False),
        ("2026-11-22T14:00:11+02:00", [at(0)], True),
        ("2026-11-22T12:00:11", ["2026-11-22T12:00:00"], True),
    ],
)
def test_a_model_that_was_changed_while_nothing_happened_to_its_instances(
    changed: str | None, events: list[str | None], suspected: bool
) -> None:
    instances = [instance(f"chat-{number}", updated_at=event) for number, event in enumerate(events)]
    assert suspects(model(updated_at=changed), instances) == (instances if suspected else [])


def test_that_an_instance_was_made_is_an_event() -> None:
    changed = model(updated_at=at(60))
    assert suspects(changed, [instance(created_at=at(55), updated_at=None)]) == []
    assert suspects(changed, [instance(created_at=at(55), updated_at=at(0))]) == []
    assert len(suspects(changed, [instance(created_at=at(0), updated_at=at(1))])) == 1


def test_an_instance_on_no_worker_runs_nothing() -> None:
    waiting, old = instance(worker_id=None, updated_at=NOON), instance("chat-b", 91, worker_id=0, updated_at=NOON)
    assert suspects(model(updated_at=at(60)), [waiting, old]) == [old]
    assert suspects(model(env=marked({}, [waiting, old])), [waiting, old]) == [old]


def test_only_llama_box_tells_what_it_was_started_with() -> None:
    one = instance(updated_at=NOON)
    assert suspects(model(updated_at=at(60), backend="vllm"), [one]) == []
    guessed = model(updated_at=at(60), backend=None, source="ollama_library", raw={"source": "ollama_library"})
    assert suspects(guessed, [one]) == [one]


# What an instance was started with.

ARGUMENTS = "--host 0.0.0.0 --port 40020 --model /m.gguf --no-warmup --ctx-size 1"
BUILTIN = "/opt/gpustack/third_party/bin/llama-box/llama-box"


@pytest.mark.parametrize(
    "line",
    [
        # llama-box of two ages, synthetic but for what stands before the path.
        f"0.00.000.398 I arguments  : {BUILTIN} {ARGUMENTS}",
        f"[2025-07-08 17:11:37.897478] I arguments  : {BUILTIN} {ARGUMENTS}",
        f"arguments : {BUILTIN} {ARGUMENTS}",
        f"I arguments  : /Library/Application Support/GPUStack/bin/llama-box/static/llama-box-v0.0.139/llama-box {ARGUMENTS}",
        f"2026-11-22T13:07:08+00:00 - gpustack.worker.backends.llama_box - DEBUG - Run llama-box: {BUILTIN} with arguments: {ARGUMENTS}",
        f"DEBUG - Run llama-box: /Library/Application Support/GPUStack/bin/llama-box_v0.0.139 with arguments: {ARGUMENTS}",
        f"DEBUG - Run llama-box: {BUILTIN} with arguments: {ARGUMENTS}\r",
    ],
)
def test_the_command_line_in_a_log(line: str) -> None:
    before = "2026-11-22T13:07:08+00:00 - gpustack.worker.backends.base - INFO - Preparing model files...\n"
    expected = ARGUMENTS.split()
    assert command_line(line) == expected
    assert command_line(f"{before}{line}\nI version    : v0.0.139 (a99a84e)\n") == expected
    # GPUStack's log begins with the start that it is of.
    assert command_line(f"{before}{line}\nI arguments  : /llama-box --other\n") == expected


def test_a_program_without_arguments() -> None:
    assert command_line("I arguments  : /llama-box\n--no-mmap") == []
    assert command_line("Run llama-box: /llama-box with arguments:\n--no-mmap") == []


@pytest.mark.parametrize(
    "log",
    [
        "",
        "Preparing model files...\n",
        "llama-box v0.0.136 (stand-in) starting: --host 0.0.0.0\n",
        "INFO - Starting llama-box server\n",
        "INFO 07-08 api_server.py: args: Namespace(arguments=[])\n",
        "the_arguments_ : x",
        "myarguments  : /llama-box --mmap\n",
        "Run llama-box: /llama-box\n with arguments: --mmap",
    ],
)
def test_a_log_that_does_not_say_it(log: str) -> None:
    assert command_line(log) is None


# Whether that is what the model says.

STARTS = {
    "0.6.0": "--alias {alias} --no-warmup",
    "0.6.2": "--alias {alias} --no-mmap --no-warmup",
    "0.6.2 spread": "--alias {alias} --no-mmap --no-warmup --rpc 10.0.0.1:40067,10.0.0.2:40067 --tensor-split 392192,392192",
    "0.6.0 reranker": "--alias {alias} --no-warmup --rerank",
    "0.6.2 vision": "--alias {alias} --no-mmap --no-warmup --mmproj /my models/mmproj.gguf --max-projected-cache 10",
    "0.6.0 vision": "--alias {alias} --no-warmup --mmproj /models/mmproj-F16.gguf",
    "0.7.1 image": "--alias {alias} --no-mmap --no-warmup --images --image-vae-tiling --tensor-split 1 --tensor-split 100,200",
}


def started(start: str, more: str = "", alias: str = "my chät -1") -> list[str]:
    line = f"--host 0.0.0.0 --embeddings --gpu-layers 62 --parallel 4 --ctx-size 8192 --port 40020 --model /m/a.gguf {STARTS[start]} {more}"
    return line.format(alias=alias).split()


@pytest.mark.parametrize("start", list(STARTS))
@pytest.mark.parametrize(
    ("parameters", "arguments"),
    [
        (["--ctx-size=8192"], "--ctx-size 8192"),
        (["--ctx-size", "8192"], "--ctx-size 8192"),
        (["--ctx-size=8192", "--no-mmap"], "--ctx-size 8192 --no-mmap"),
        (["--no-mmap", "--ctx-size=8192"], "--no-mmap --ctx-size 8192"),
        (["--no-mmap", "--no-mmap"], "--no-mmap --no-mmap"),
        (["--mmap=true"], "--mmap true"),
        (["--override-kv=a=str:b=c"], "--override-kv a=str:b=c"),
        (["--chat-template=a  b\tc", "--x="], "--chat-template a b c --x"),
        (["--a b", ""], "--a b"),
        (["--logit-bias=1+.5*(2)"], "--logit-bias 1+.5*(2)"),
        (["--lora={data_dir}/a.gguf"], "--lora /var/lib/gpustack/a.gguf"),
        (["--lora=x{data_dir}y{data_dir}z"], "--lora x/my data/y/my data/z"),
        (["--no-warmup", "--no-mmap"], "--no-warmup --no-mmap"),
    ],
)
def test_an_instance_that_has_the_parameters(start: str, parameters: list[str], arguments: str) -> None:
    now = model(backend_parameters=tuple(parameters))
    assert runs_with(started(start, arguments), now)
    # Any other is not: one more before, between or after, one less, another value, another order.
    assert not runs_with(started(start, f"--ctx-size 1 {arguments}"), now)
    assert not runs_with(started(start, f"{arguments} --ctx-size 1"), now)
    assert not runs_with(started(start), now)
    assert not runs_with(started(start, f"{arguments}0"), now)
    assert not runs_with(started(start, arguments), model(backend_parameters=("--ctx-size=2", *parameters)))
    assert not runs_with(started(start, arguments), model(backend_parameters=None))


@pytest.mark.parametrize("start", list(STARTS))
@pytest.mark.parametrize("parameters", [None, (), ("",)])
def test_an_instance_without_parameters(start: str, parameters: tuple[str, ...] | None) -> None:
    now = model(backend_parameters=parameters)
    assert runs_with(started(start), now)
    for arguments in ("--mmap", "--no-mmap", "--mmap true", "--ctx-size 8192", "--rerank2", "--tensor-split x"):
        assert not runs_with(started(start, arguments), now)


@pytest.mark.parametrize(
    ("value", "arguments", "same"),
    [
        ("mm.gguf", "/models/mm.gguf", True),
        ("mm.gguf", "/mm.gguf", True),
        ("mm.gguf", "/my models/mm.gguf", True),
        ("my mm.gguf", "/models/my mm.gguf", True),
        ("./sub//mm.gguf", "/models/sub/mm.gguf", True),
        ("../mm.gguf", "/models/../mm.gguf", True),
        ("/other/mm.gguf", "/other/mm.gguf", True),
        ("/other//mm.gguf", "/other//mm.gguf", True),
        ("{data_dir}/mm.gguf", "/var/lib/gpustack/mm.gguf", True),
        ("mm.gguf", "mm.gguf", False),
        ("mm.gguf", "/models/xmm.gguf", False),
        ("mm.gguf", "/models/mm.gguf.old", False),
        ("mm.gguf", "/models/mmxgguf", False),
        ("/other/mm.gguf", "/models/other/mm.gguf", False),
    ],
)
def test_a_projector_is_looked_for_beside_the_model(value: str, arguments: str, same: bool) -> None:
    for parameters in ((f"--mmproj={value}",), ("--mmproj", value)):
        assert runs_with(started("0.6.2", f"--mmproj {arguments}"), model(backend_parameters=parameters)) is same
        more = ("-fa", *parameters)
        assert runs_with(started("0.6.2", f"-fa --mmproj {arguments}"), model(backend_parameters=more)) is same
        more = (*parameters, "--ctx-size=1")
        assert runs_with(started("0.6.2", f"--mmproj {arguments} --ctx-size 1"), model(backend_parameters=more)) is same


def test_only_the_value_of_mmproj_may_be_elsewhere() -> None:
    assert not runs_with(started("0.6.2", "--lora /models/a.gguf"), model(backend_parameters=("--lora=a.gguf",)))
    assert not runs_with(started("0.6.2", "--mmproj /a.gguf /b.gguf"), model(backend_parameters=("--mmproj=a.gguf", "b.gguf")))


@pytest.mark.parametrize("arguments", [[], ["--no-mmap"], ["--host", "0.0.0.0", "--no-mmap"]])
def test_what_gpustack_has_not_written_is_something_else(arguments: list[str]) -> None:
    assert not runs_with(arguments, model(backend_parameters=("--no-mmap",)))
    assert not runs_with(arguments, model())


# Recordings.


@pytest.mark.parametrize(
    ("name", "count", "last"), [("llamabox_v0.0.117_m3ultra_rpc_boot", 8, "0"), ("llamabox_v0.0.161_m2_static_rpc_boot", 12, "--verbose")]
)
def test_recorded_logs_of_llama_box(captures_dir: pathlib.Path, name: str, count: int, last: str) -> None:
    found = command_line((captures_dir / "logs" / f"{name}.log").read_text("utf-8"))
    assert found is not None
    assert (found[:2], len(found), found[-1]) == (["--rpc-server-host", "0.0.0.0"], count, last)


CASES = ["0.6.0-a-default", "0.6.0-b-no-mmap", "0.6.0-b2-pinned-two", "0.6.2-c-default", "0.6.2-c3-no-cpu-offload", "0.6.2-d-mmap"]
CASES += ["0.6.2-d2-mmap-eq", "0.7.1-e-default", "0.7.1-e2-mmap"]


@pytest.mark.parametrize("name", CASES)
def test_recorded_instances_run_with_what_their_models_say(captures_dir: pathlib.Path, name: str) -> None:
    recorded = json.loads((captures_dir / "gpustack-1907" / f"{name}.json").read_text("utf-8"))
    now = parse_model(recorded["model"])
    instances = [parse_instance(one) for one in recorded["instances"]]
    # They have just begun to run.
    assert suspects(now, instances) == []
    arguments = command_line(recorded["logs"])
    assert arguments is not None
    assert arguments[:2] == ["--host", "0.0.0.0"]
    assert runs_with(arguments, now)
    for others in (["--ctx-size=4096"], ["--no-mmap", "--mmap"], ["--ctx-size=4096", *(now.backend_parameters or ())]):
        assert not runs_with(arguments, parse_model({**recorded["model"], "backend_parameters": others}))
    if now.backend_parameters:
        assert not runs_with(arguments, parse_model({**recorded["model"], "backend_parameters": []}))
