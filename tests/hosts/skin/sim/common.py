# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""What all stand-ins share: the profile, the knobs of a test, the record of calls."""

from __future__ import annotations

import json
import os
import sys
import time
import typing as t

SIM = "/.sim"
PROC = "/.sim/proc"


def read_json(name: str) -> t.Dict[str, t.Any]:
    """A file under /.sim; an absent one is an empty one."""
    try:
        with open(f"{SIM}/{name}", encoding="utf-8") as file:
            content: t.Dict[str, t.Any] = json.load(file)
    except FileNotFoundError:
        return {}
    return content


def write_json(name: str, content: t.Dict[str, t.Any]) -> None:
    draft = f"{SIM}/.{name}.{os.getpid()}"
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.rename(draft, f"{SIM}/{name}")


def profile() -> t.Dict[str, t.Any]:
    return read_json("profile.json")


def append_line(name: str, record: t.Dict[str, t.Any]) -> None:
    """One write of one line: several programs append at once."""
    line = json.dumps({"time": time.time(), **record}) + "\n"
    with open(f"{SIM}/{name}", "ab", buffering=0) as file:
        file.write(line.encode())


def hang(program: str, arguments: t.List[str]) -> None:
    """/.sim/hang.json {"launchctl": ["bootout"], "sysctl": []}: calls with one of these words never end; of an empty list, none does."""
    words = read_json("hang.json").get(program)
    if words is not None and (not words or set(words).intersection(arguments)):
        append_line("calls.jsonl", {"program": program, "argv": arguments, "rc": None, "uid": os.getuid()})
        while True:
            time.sleep(3600)


def recorded(program: str, function: t.Callable[[t.List[str]], int]) -> t.Callable[[t.List[str]], int]:
    """Tests count calls on the host: a probe may ask system_profiler once, not three times."""

    def main(arguments: t.List[str]) -> int:
        hang(program, arguments)
        code = 70
        try:
            code = function(arguments)
        except BrokenPipeError:
            # The reader has left, as `| head -1` does: no more output, no complaint at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = 141
        finally:
            append_line("calls.jsonl", {"program": program, "argv": arguments, "rc": code, "uid": os.getuid()})
        return code

    return main


def complain(text: str) -> None:
    sys.stdout.flush()
    print(text, file=sys.stderr)


def read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
