# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""gpustack#1907 on the real schedulers: where they put a model of 664 GiB, what llama-box gets, and how it then loads the model.

cases.py [VERSION ...]   0.6.0, 0.6.2 and 0.7.1 by default, one after another, each with a server and two simulated Macs of 512 GB
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import typing as t

from cluster import Cluster, ClusterError, Recorder, Worker
from fleet import Fleet

MODEL = "deepseek-v3-0324-Q8_0"
WORKERS = ("studio-1", "studio-2")
LAYERS = 62
GIB = 1 << 30
# Figures are those of a table with one decimal.
ROUNDING_GIB = 0.06


@dataclasses.dataclass(frozen=True)
class Case:
    """Parameters of a model, and what comes of them. Claims in GiB; remote_gib 0: one worker has it all."""

    parameters: tuple[str, ...]
    flags: tuple[str, ...]
    mmap: bool
    main_gib: float
    remote_gib: float = 0.0
    pinned: bool = False


# The estimator of 0.6.0 takes mmap for granted; those of 0.6.2 and 0.7.1 do so where a model asks for it, and only where they understand
# the parameter, which "--mmap=true" is not. llama-box is told what the estimator assumes, except in 0.6.0 and in that case.
LATER = (
    Case((), ("--no-mmap",), False, 345.6, 355.9),
    Case(("--mmap",), ("--no-mmap", "--mmap"), True, 38.3),
)
CASES: dict[str, tuple[Case, ...]] = {
    "0.6.0": (
        Case((), (), True, 38.3),
        Case(("--no-mmap",), ("--no-mmap",), False, 38.3),
        Case(("--no-mmap",), ("--no-mmap",), False, 19.0, 355.9, pinned=True),
    ),
    "0.6.2": (*LATER, Case(("--mmap=true",), ("--no-mmap", "--mmap", "true"), True, 345.6, 355.9)),
    "0.7.1": LATER,
}


class CaseError(Exception):
    """GPUStack did something else than is written here."""


def require(condition: bool, what: str, seen: t.Any) -> None:
    """Say what is not so, with what was seen."""
    if not condition:
        raise CaseError(f"{what}: {seen}")


def is_about(claimed_bytes: int, expected_gib: float) -> bool:
    """Equal, as far as the table says it."""
    return abs(claimed_bytes / GIB - expected_gib) < ROUNDING_GIB


def mmap_flags(argv: t.Sequence[str]) -> tuple[str, ...]:
    """Those of a command line that say something of mmap, with the word after --mmap if it is a value."""
    found = []
    for word, following in zip(argv, [*argv[1:], ""]):
        if word in ("--mmap", "--no-mmap"):
            found += [word, following] if following in ("true", "false") else [word]
    return tuple(found)


def check_placement(case: Case, instance: t.Mapping[str, t.Any]) -> None:
    """The claims, and on how many workers they are. Which of them is the main one changes from run to run."""
    claim = instance["computed_resource_claim"]
    require((claim["offload_layers"], claim["total_layers"]) == (LAYERS, LAYERS), "not all layers are in GPUs", claim)
    require(is_about(sum(claim["vram"].values()), case.main_gib), f"the main worker does not claim {case.main_gib} GiB", claim)
    # 0.6 and 0.7 name them differently.
    servers = instance["distributed_servers"] or {}
    others = servers.get("rpc_servers") or servers.get("subordinate_workers") or []
    require(len(others) == (1 if case.remote_gib else 0), "another number of workers", servers)
    for other in others:
        remote = other["computed_resource_claim"]
        require(is_about(sum(remote["vram"].values()), case.remote_gib), f"the other does not claim {case.remote_gib} GiB", remote)
        require(remote["offload_layers"] == LAYERS // 2, "the other does not have half of the layers", remote)


def check_engine(case: Case, cluster: Cluster, instance: t.Mapping[str, t.Any]) -> None:
    """What it was started with, from the process table, and what it does, from its memory map; and it answers."""
    process, said = cluster.engine(instance), cluster.props(instance)
    require(mmap_flags(process["argv"]) == case.flags, f"llama-box does not get {case.flags}", process)
    require(process["argv"][1:] == said["argv"] and process["pid"] == said["pid"], "props are those of another process", (process, said))
    require(said["mmap"] is said["mapped"] is case.mmap, f"the model is {'not ' * case.mmap}mapped", said)
    require(("--rpc" in process["argv"]) is bool(case.remote_gib), "RPC servers and claims do not fit", process)
    question = {"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16}
    answer = cluster.ask_model("/v1-openai/chat/completions", question)
    require(answer["usage"]["completion_tokens"] == 16, "not as many tokens as were asked for", answer)
    require(answer["choices"][0]["message"]["content"].strip().isprintable(), "no text", answer)


def run(cluster: Cluster, case: Case) -> None:
    """Deploy, look, remove."""
    fields: dict[str, t.Any] = {"backend_parameters": list(case.parameters)}
    if case.pinned:
        fields["gpu_selector"] = {"gpu_ids": [f"{worker}:mps:0" for worker in WORKERS]}
    (instance,) = cluster.deploy(MODEL, MODEL, **fields)
    check_placement(case, instance)
    check_engine(case, cluster, instance)
    cluster.remove(MODEL)


def check_others(cluster: Cluster) -> None:
    """Embeddings and scores are real, too: a vector of a length other than 0, and an order of texts."""
    for name, category, path, question, answers in (
        ("embedder", "embedding", "/v1-openai/embeddings", {"input": "two macs share one model"}, "data"),
        ("reranker", "reranker", "/v1/rerank", {"query": "two macs", "documents": ["page by page", "share one model"]}, "results"),
    ):
        cluster.deploy(name, name)
        answer = cluster.ask_model(path, {"model": name, **question})
        (model,) = [one for one in cluster.items("/v1/models") if one["name"] == name]
        require(model["categories"] == [category], f"the category is not {category}", model)
        values = [number for one in answer[answers] for number in one.get("embedding", [one.get("relevance_score")])]
        require(len(set(values)) > 1 and any(values), "no numbers", answer)
        cluster.remove(name)


def check_silence(cluster: Cluster) -> None:
    """A model that is made to be silent runs as well as any, for GPUStack."""
    cluster.deploy("silent", "tiny", env={"LLAMA_BOX_SILENT": "empty"})
    question = {"model": "silent", "messages": [{"role": "user", "content": "Say hello."}]}
    answer = cluster.ask_model("/v1-openai/chat/completions", question)
    require(answer["choices"][0]["message"]["content"] == "", "it is not silent", answer)
    cluster.remove("silent")


def check_recorder(cluster: Cluster) -> None:
    """Only what passes the proxy is counted."""
    with Recorder(cluster) as recorder:
        since = recorder.mark()
        cluster.api("GET", "/v1/models")
        cluster.url, direct = recorder.url, cluster.url
        cluster.api("GET", "/v1/workers?page=1")
        cluster.url = direct
        require(recorder.calls(since) == [{"method": "GET", "path": "/v1/workers?page=1", "status": 200}], "calls", recorder.calls(since))


def check_version(version: str, others: bool) -> None:
    """All cases of a version."""
    start = time.monotonic()
    with Fleet("cases") as fleet:
        cluster = Cluster(fleet, version, [Worker(name) for name in WORKERS])
        cluster.install()
        require(cluster.api("GET", "/version")["version"].lstrip("v") == version, "another version", cluster.api("GET", "/version"))
        print(f"{version}: server and {len(WORKERS)} workers are ready after {time.monotonic() - start:.0f} s", flush=True)
        for case in CASES[version]:
            begin = time.monotonic()
            run(cluster, case)
            words = " ".join(case.parameters) or "no parameters"
            where = f"and {case.remote_gib} GiB on the other" if case.remote_gib else "on one worker"
            how = f"mmap {'on' if case.mmap else 'off'}"
            pinned = ", pinned to both" if case.pinned else ""
            print(f"{version}: {words}{pinned}: {case.main_gib} GiB {where}, {how} ({time.monotonic() - begin:.0f} s)", flush=True)
        if others:
            check_others(cluster)
            check_silence(cluster)
            check_recorder(cluster)
            print(f"{version}: embeddings, reranking, silence, recorded calls", flush=True)
    print(f"{version}: done after {time.monotonic() - start:.0f} s", flush=True)


def main() -> int:
    """The versions that are asked for; what does not depend on the version is looked at in the first of them only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("versions", nargs="*", default=list(CASES), metavar="VERSION")
    arguments = parser.parse_args()
    failures = []
    for version in arguments.versions:
        try:
            check_version(version, version == arguments.versions[-1])
        except (CaseError, ClusterError) as exc:
            failures.append(f"{version}: {exc}")
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
