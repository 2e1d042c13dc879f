# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The arithmetic of the stand-in for gguf-parser (tests/gpustack/tools), which real GPUStack schedulers plan with."""

from __future__ import annotations

import functools
import json
import pathlib
import subprocess
import sys
import typing as t

import pytest

PROGRAM = pathlib.Path(__file__).parents[1] / "gpustack/tools/gguf_parser.py"
MODELS = PROGRAM.with_name("tiny_models.py")
GIB = 1 << 30
# As tests/gpustack/tools/tiny_models.py declares it; the recordings were made with the same.
DEEPSEEK = {"weights_gib": 664, "layers": 61, "kv_gib": 38.1, "input_gib": 0.9, "output_gib": 0.9, "architecture": "deepseek2"}

# The stand-ins are for the Python of the hosts.
pytestmark = pytest.mark.skipif(sys.version_info < (3, 9), reason="needs Python 3.9")


@pytest.fixture(name="model")
def fixture_model(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "deepseek.gguf"
    path.write_bytes(b"GGUF")
    path.with_name("deepseek.gguf.json").write_text(json.dumps(DEEPSEEK))
    return path


# Schedulers ask the same many times.
@functools.cache
def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(PROGRAM), *arguments], check=False, capture_output=True, text=True)


def estimate(*arguments: str) -> t.Any:
    return json.loads(ask(*arguments).stdout)["estimate"]


def gib(size: int) -> float:
    return round(size / GIB, 1)


def test_with_mmap_the_weights_on_the_own_gpu_do_not_count(model: pathlib.Path) -> None:
    (mapped,) = estimate("--path", str(model))["items"]
    (whole,) = estimate("--path", str(model), "--mmap=false")["items"]
    assert (mapped["offloadLayers"], mapped["fullOffloaded"]) == (62, True)
    assert gib(mapped["vrams"][0]["uma"]) == 38.3
    # All layers and the output layer; the input layer stays in RAM.
    assert gib(whole["vrams"][0]["uma"] - mapped["vrams"][0]["uma"]) == 664 - 0.9


@pytest.mark.parametrize(
    ("arguments", "mapped"),
    [
        ([], True),
        (["--mmap"], True),
        (["--mmap=true"], True),
        (["--no-mmap=false"], True),
        (["--mmap=false"], False),
        (["--no-mmap"], False),
        (["--no-mmap=true"], False),
    ],
)
def test_flags_of_mmap(model: pathlib.Path, arguments: list[str], mapped: bool) -> None:
    (item,) = estimate("--path", str(model), *arguments)["items"]
    assert (item["vrams"][0]["uma"] < 100 * GIB) is mapped


def test_weights_behind_an_rpc_server_always_count(model: pathlib.Path) -> None:
    (item,) = estimate("--path", str(model), "--tensor-split", "1,1", "--rpc", "host:80")["items"]
    remote, local = item["vrams"]
    assert (remote["remote"], remote["handleLayers"], gib(remote["uma"])) == (True, 31, 355.9)
    assert (local["remote"], local["handleLayers"], local["handleOutputLayer"], gib(local["uma"])) == (False, 30, True, 19.0)


def test_weights_on_a_second_own_gpu_count(model: pathlib.Path) -> None:
    (item,) = estimate("--path", str(model), "--tensor-split", "1,1")["items"]
    first, second = item["vrams"]
    assert first["uma"] < 30 * GIB < 300 * GIB < second["uma"]


def test_without_unified_memory_mmap_changes_nothing(model: pathlib.Path) -> None:
    (mapped,) = estimate("--path", str(model))["items"]
    (whole,) = estimate("--path", str(model), "--no-mmap")["items"]
    assert mapped["vrams"][0]["nonuma"] == whole["vrams"][0]["nonuma"] > 690 * GIB


def test_one_item_for_every_number_of_layers(model: pathlib.Path) -> None:
    items = estimate("--path", str(model), "--gpu-layers-step", "1")["items"]
    assert [item["offloadLayers"] for item in items] == list(range(63))
    assert [item["fullOffloaded"] for item in items] == [False] * 62 + [True]
    assert items[0]["vrams"][0]["handleLayers"] == 0


def test_no_layers_on_gpus(model: pathlib.Path) -> None:
    (item,) = estimate("--path", str(model), "--gpu-layers", "0", "--no-mmap")["items"]
    assert (item["ram"]["handleLayers"], item["offloadLayers"]) == (61, 0)
    assert item["ram"]["uma"] > 700 * GIB


def test_the_kv_cache_grows_with_the_context(model: pathlib.Path) -> None:
    sizes = [estimate("--path", str(model), f"--ctx-size={size}")["items"][0]["vrams"][0]["uma"] for size in (8192, 16384)]
    assert gib(sizes[1] - sizes[0]) == 38.1


def test_a_model_without_a_sidecar_is_as_large_as_its_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "plain.gguf"
    path.write_bytes(b"GGUF" + bytes(1 << 20))
    (item,) = estimate("--path", str(path), "--no-mmap")["items"]
    assert item["offloadLayers"] == 5
    assert abs(item["vrams"][0]["uma"] - (256 << 20) - (1 << 20)) < 1 << 15


@pytest.mark.parametrize("content", [None, b"no model"], ids=["missing", "another file"])
def test_what_is_no_model_is_an_error(tmp_path: pathlib.Path, content: bytes | None) -> None:
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(content)
    done = ask("--path", str(path))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("failed to parse GGUF file: ")


def test_models_of_a_hub_are_not_reached() -> None:
    assert ask("-hf-repo", "someone/model").returncode == 1


def test_declared_kinds_reach_gpustack(model: pathlib.Path) -> None:
    declared = {"weights_gib": 1, "layers": 4, "architecture": "bert", "embedding_only": True, "reranking": True}
    model.with_name(f"{model.name}.json").write_text(json.dumps(declared))
    found = estimate("--path", str(model))
    assert (found["embeddingOnly"], found["reranking"], found["architecture"]) == (True, True, "bert")


def test_models_of_the_tests_are_gguf_files_with_sidecars(tmp_path: pathlib.Path) -> None:
    subprocess.run([sys.executable, str(MODELS), str(tmp_path)], check=True)
    names = sorted(path.stem for path in tmp_path.glob("*.gguf"))
    assert names == ["deepseek-v3-0324-Q8_0", "embedder", "reranker", "tiny"]
    assert all((tmp_path / f"{name}.gguf").read_bytes().startswith(b"GGUF\x03\0\0\0") for name in names)
    assert json.loads((tmp_path / "deepseek-v3-0324-Q8_0.gguf.json").read_text()) == DEEPSEEK
    # The same on every machine: a layer is known by what it is made of.
    first = {name: (tmp_path / f"{name}.gguf").read_bytes() for name in names}
    subprocess.run([sys.executable, str(MODELS), str(tmp_path)], check=True)
    assert {name: (tmp_path / f"{name}.gguf").read_bytes() for name in names} == first


def test_claims_of_recorded_schedulers(model: pathlib.Path, captures_dir: pathlib.Path) -> None:
    """What real schedulers claimed for an instance is in what the stand-in answers to the calls that they made for it."""
    names = sorted((captures_dir / "gpustack-1907").glob("*.json"))
    assert names
    for name in names:
        recorded = json.loads(name.read_text())
        answered: set[int] = set()
        for call in recorded["gguf_parser_calls"]:
            arguments = [str(model) if word == recorded["spec"]["local_path"] else word for word in call["argv"]]
            for item in estimate(*arguments)["items"]:
                answered |= {device["uma"] for device in (item["ram"], *item["vrams"])}
        for instance in recorded["instances"]:
            servers = instance["distributed_servers"] or {}
            others = servers.get("rpc_servers") or servers.get("subordinate_workers") or []
            for claim in [instance["computed_resource_claim"], *(other["computed_resource_claim"] for other in others)]:
                claimed = {*claim["vram"].values(), claim["ram"]} - {0}
                assert claimed <= answered, (name.name, claim)
