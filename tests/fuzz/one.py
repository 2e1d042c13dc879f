# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fuzz one target: one.py TARGET CORPUS [options of libFuzzer]; `all` takes turns.

Or, with --list, print the names of all; with --inputs after the target, run the files named.

The parsers are instrumented, so that libFuzzer sees which branches an input takes, and keeps those that take new ones.
"""

from __future__ import annotations

import pathlib
import sys

import atheris

with atheris.instrument_imports(include=["ansible_collections.metalfleet"]):
    import answers_of_servers
    import files_of_services
    import outputs_of_nodes
    import remains
from shapes import Target, attempt

TARGETS = {
    target.name: target for module in (files_of_services, outputs_of_nodes, answers_of_servers, remains) for target in module.TARGETS
}


def _each(data: bytes) -> None:
    """The first byte says which target gets the rest."""
    targets = list(TARGETS.values())
    if data:
        target = targets[data[0] % len(targets)]
        attempt(target, data[1 : 1 + target.largest_bytes])


# Of all in one process, since to start one for each takes longer than a short run may.
ALL = Target(
    "all",
    _each,
    tuple(bytes([number]) + seed for number, target in enumerate(TARGETS.values()) for seed in target.seeds[:3]),
    largest_bytes=2048,
)


def plant(target: Target, corpus: pathlib.Path) -> None:
    """Put the seeds where libFuzzer looks for inputs to begin with."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed[: target.largest_bytes])


def main(arguments: list[str]) -> None:
    """Fuzz, list or repeat."""
    if arguments == ["--list"]:
        print("\n".join(TARGETS))
        return
    target = {**TARGETS, ALL.name: ALL}[arguments[0]]
    if arguments[1:2] == ["--inputs"]:
        for path in arguments[2:]:
            attempt(target, pathlib.Path(path).read_bytes())
        return
    corpus, *options = arguments[1:]
    plant(target, pathlib.Path(corpus))
    atheris.Setup([sys.argv[0], *options, f"-max_len={target.largest_bytes}", corpus], lambda data: attempt(target, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1:])
