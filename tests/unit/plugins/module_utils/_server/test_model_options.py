# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines for who watches, and what comes of options before the server is asked. The options themselves are tested with the modules."""

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.model_options import PROGRESS_FILE, Progress
from ansible_collections.metalfleet.gpustack.tests.unit.memory_gpustack import MemoryGpustack
from ansible_collections.metalfleet.gpustack.tests.unit.model_runs import on
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json


def test_lines_are_kept_and_written(tmp_path: pathlib.Path) -> None:
    say = Progress(str(tmp_path))
    say("chät: created")
    assert (tmp_path / PROGRESS_FILE).read_bytes() == "chät: created\n".encode()
    say("chät: 1 of 1 running")
    assert (tmp_path / PROGRESS_FILE).read_text("utf-8").splitlines() == say.lines == ["chät: created", "chät: 1 of 1 running"]


def test_lines_that_cannot_be_written_are_kept(tmp_path: pathlib.Path) -> None:
    say = Progress(str(tmp_path / "gone"))
    say("chat: created")
    assert say.lines == ["chat: created"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wait_timeout_seconds": 0}, "wait_timeout_seconds: 0 is too small; the least is 1"),
        ({"overrides": [{"mmap": "mmap", "model": "a", "labels": {"b": "c"}}]}, "override 1 of the mmap policy needs either"),
        ({"nodes": [{"name": ""}]}, "node 1 of nodes has no name"),
        ({"lock": {"format": 2, "releases": {}}}, "lock: "),
        ({"timeout_seconds": 0}, "timeout_seconds: 0 is too small; the least is 1"),
    ],
)
def test_what_cannot_be_meant_is_said_before_the_server_is_asked(monkeypatch: pytest.MonkeyPatch, options: Json, message: str) -> None:
    server = MemoryGpustack()
    with pytest.raises(BadInputError) as caught:
        on(server, monkeypatch).start(**options)
    assert str(caught.value).startswith(message)
    assert server.calls == []
