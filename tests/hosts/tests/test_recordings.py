# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The stand-ins against what was recorded from real Macs, where the recordings are at hand."""

from __future__ import annotations

import csv
import pathlib
import re
import typing as t

import pytest
from conftest import Host, Job, Run, until

STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"


class Row(t.NamedTuple):
    command: str
    condition: str
    code: int
    text: str


def _rows(captures_dir: pathlib.Path) -> t.List[Row]:
    with open(captures_dir / "launchctl" / "launchctl_errors.tsv", encoding="utf-8", newline="") as file:
        return [
            Row(one["command"], one["condition"], int(one["rc"].strip("()")), one["stderr"].replace("\\n", "\n"))
            for one in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        ]


def _row(rows: t.List[Row], command: str, condition: str) -> Row:
    found = [row for row in rows if row.command.startswith(f"launchctl {command}") and row.condition.startswith(condition)]
    assert len(found) == 1, f"{command} / {condition}: the recordings have changed"
    return found[0]


def _matches(row: Row, done: Run[str], job: Job, root: bool = True) -> bool:
    text = re.sub(r" \(second line only when not root\)$", "", row.text)
    if text != row.text and root:
        text = text.split("\n")[0]
    text = text.replace("LABEL", job.label).replace("PLIST", job.path)
    return (done.returncode, done.stderr) == (row.code, text + "\n")


def test_every_recorded_row(captures_dir: pathlib.Path, job: Job, knobs: t.Callable[..., None]) -> None:
    rows = _rows(captures_dir)
    mac, label, path = job.mac, job.label, job.path
    checked: t.List[t.Tuple[Row, bool]] = []

    def check(command: str, condition: str, done: Run[str], root: bool = True) -> None:
        row = _row(rows, command, condition)
        checked.append((row, _matches(row, done, job, root)))

    job.write(STUBBORN, ExitTimeOut=2)
    check("print", "not loaded", mac.sh(f"launchctl print system/{label}"))
    check("kickstart", "not loaded", mac.sh(f"launchctl kickstart -k system/{label}"))
    check("bootout system/LABEL", "not loaded", job.bootout())
    check("bootout system PLIST", "not loaded", mac.sh(f"launchctl bootout system {path}"))
    check("unload", "not loaded", mac.sh(f"launchctl unload {path}"))
    mac.sh(f"launchctl disable system/{label}", check=True)
    check("bootstrap", "label disabled", job.bootstrap())
    mac.sh(f"launchctl enable system/{label}", check=True)
    assert job.bootstrap().returncode == 0
    check("bootstrap", "already loaded", job.bootstrap())
    check("bootstrap", "already loaded", job.bootstrap(user="fleet"), root=False)
    check("load", "already loaded", mac.sh(f"launchctl load {path}"))
    knobs(bootout_wait=0.1)
    check("bootout system/LABEL", "teardown", job.bootout())
    check("bootstrap", "already loaded, or bootout not drained", job.bootstrap())
    knobs(draining_code=37)
    check("bootstrap", "still tearing down", job.bootstrap())
    assert until(job.gone)
    assert [row for row, same in checked if not same] == []
    assert {row for row, _same in checked} == set(rows), "a recorded row has no check"


@pytest.mark.parametrize("name", ["running", "loaded_not_running"])
def test_print_has_the_recorded_keys_in_the_recorded_order(captures_dir: pathlib.Path, job: Job, name: str) -> None:
    """Lines of one tab, without values; what launchd says of its own history (jetsam, trampolines) is not imitated further."""
    recorded = (captures_dir / "launchctl" / f"launchctl_print_system_daemon_{name}.txt").read_text(encoding="utf-8")
    job.write(RunAtLoad=name == "running", StandardOutPath="/var/log/a", StandardErrorPath="/var/log/b")
    job.bootstrap()
    wanted = [key for key in _keys(recorded) if key not in ("last exit reason", "last jetsam exit details") and "checked" not in key]
    shown = [key for key in _keys(job.print().stdout) if key in wanted]
    # a recording of a job without output files has no such lines, and ours has base minimum runtime in both
    assert [key for key in wanted if key in shown] == wanted
    assert shown == wanted


def _keys(text: str) -> t.List[str]:
    return re.findall(r"^\t([a-z][a-z ]*) = ", text, re.M)


def test_sysctl_texts(captures_dir: pathlib.Path, mac: Host) -> None:
    unknown = (captures_dir / "apple" / "sysctl_unknown_oid_stderr.txt").read_text(encoding="utf-8").splitlines()[-1]
    assert mac.sh("sysctl sysctl.none").stderr == unknown.replace("sysctl.proc_translated", "sysctl.none") + "\n"
    written = (captures_dir / "apple" / "sysctl_w_wired_limit_output.txt").read_text(encoding="utf-8")
    assert mac.out("sysctl iogpu.wired_limit_mb=14000").strip() in written.splitlines()
