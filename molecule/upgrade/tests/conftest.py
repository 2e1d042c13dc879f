# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the steps' tests share: `node`, the host under test."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
import seen

if t.TYPE_CHECKING:
    from testinfra.host import Host


@dataclasses.dataclass(frozen=True)
class Node:
    """A host. device: as in the name of GPUStack's folder. builds: what it takes of each release. keeps: whether earlier ones stay."""

    gpustack: str
    device: str
    builds: dict[str, str]
    keeps: bool = True

    def assert_at(self, host: Host, version: str, starts: int, others: t.Sequence[str]) -> None:
        """It has and runs this version, after so many starts; others: versions that came before, which are kept."""
        seen.assert_llama_box(host, version, self.builds[version], starts)
        seen.assert_record(host, self.gpustack, self.device)
        releases = [version, *(others if self.keeps else ())]
        assert seen.look(host)["llama_box"]["kept"] == sorted(f"{release}/{self.builds[release]}" for release in releases)


MAC, LINUX = "darwin-arm64-metal", "linux-amd64-avx2"
NODES = {
    "mac060": Node("0.6.0", "", {"v0.0.139": MAC, "v0.0.168": MAC}),
    "mac071": Node("0.7.1", "darwin-arm64-mps", {"v0.0.139": MAC, "v0.0.168": f"dl-{MAC}"}),
    "linux062": Node("0.6.2", "", {"v0.0.139": LINUX, "v0.0.168": LINUX}, keeps=False),
    "linux071": Node("0.7.1", "linux-amd64", {"v0.0.139": LINUX, "v0.0.168": "dl-linux-amd64-cpu"}),
}


@pytest.fixture
def node(host: Host) -> Node:
    """The host under test."""
    return NODES[host.backend.get_hostname()]
