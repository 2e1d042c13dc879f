# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nodes in memory whose llama-box programs are the stand-ins of tests/mirror, and say their version."""

from __future__ import annotations

import hashlib
import json
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import Installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.llama_box_request import OPTIONS
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

SITE = "/venv/lib/python3.11/site-packages"
THIRD_PARTY = f"{SITE}/gpustack/third_party/bin"
BIN_DIR = "/var/lib/gpustack/bin"
ARCHIVES = "/srv/archives"
STATE = "/var/db/metalfleet"
STORE = f"{STATE}/llama-box"
RECORD = f"{STATE}/llama-box.json"
STATIC = "darwin-arm64-metal"
DYNAMIC = "dl-darwin-arm64-metal"
OWN = {"0.6.0": "v0.0.136", "0.6.2": "v0.0.154", "0.7.1": "v0.0.171"}
VERSIONS = ("v0.0.99", "v0.0.136", "v0.0.139", "v0.0.144", "v0.0.154", "v0.0.168", "v0.0.171")
BUILTIN_0_6 = f"{THIRD_PARTY}/llama-box/llama-box"
FOLDER_0_7 = f"{THIRD_PARTY}/llama-box/llama-box-v0.0.171-darwin-arm64-mps"
BUILTIN_0_7 = f"{FOLDER_0_7}/llama-box"
LINK_0_7 = f"{THIRD_PARTY}/llama-box/llama-box-default"
STATIC_OWN_0_7 = f"{BIN_DIR}/llama-box/static/llama-box-v0.0.171/llama-box"


def program(version: str, build: str = STATIC) -> bytes:
    return archives.program(version, build)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def builds(version: str) -> tuple[str, ...]:
    return (STATIC, DYNAMIC) if version >= "v0.0.157" and version != "v0.0.99" else (STATIC,)


def lock_data(*versions: str) -> dict[str, t.Any]:
    """The content of a lock file with the builds for Apple Silicon."""
    releases: dict[str, t.Any] = {}
    for version in versions or VERSIONS:
        for build in builds(version):
            files = archives.contents(version, build)
            archive = archives.pack(files)
            releases.setdefault(version, {})[build] = {
                "url": f"https://mirror.invalid/{version}/{build}.zip",
                "sha256": sha256(archive),
                "size_bytes": len(archive),
                "files": {name: sha256(content) for name, content in files.items()},
            }
    return {"format": 1, "releases": releases}


def options(version: str | None = "v0.0.139", **changed: t.Any) -> dict[str, t.Any]:
    """The options as the argument spec hands them on, with archives on the node."""
    defaults = {name: option.get("default") for name, option in OPTIONS.items()}
    return {**defaults, "version": version, "lock": lock_data(), "source": "folder", "folder": ARCHIVES, **changed}


class BoxHost(MemoryHost):
    """A Mac whose stand-ins for llama-box say their version. mute: programs that do not. tools: of macOS, which find nothing wrong."""

    mute: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset({"xattr", "codesign"})

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        words = tuple(argv)
        if words in self.commands:
            return super().run(argv, timeout_seconds)
        if words[0] in self.tools:
            return CommandResult(int(words[0] == "xattr"), "", "")
        if words[1:] == ("--version",) and self.read(words[0]) is not None:
            self.calls.append(words)
            match = re.search(rb"stand-in for llama-box (\S+) \(", self.read(words[0]) or b"")
            if match is None or words[0] in self.mute:
                return CommandResult(-9, "", "")
            return CommandResult(0, "", f"version    : {match.group(1).decode()} (abcdef0)\n")
        return super().run(argv, timeout_seconds)

    def put(self, path: str, content: bytes, mode: int = 0o755) -> None:
        self._put(path, MemoryFile(content, mode=mode))

    def content(self, path: str) -> bytes | None:
        return self.files[path].content if path in self.files and self.files[path].target is None else None

    def asked(self) -> list[str]:
        """The slots whose program was run for its version."""
        return [call[0] for call in self.calls if call[1:] == ("--version",) and not call[0].startswith(STORE)]


def node(gpustack: str = "0.6.2", host: BoxHost | None = None) -> BoxHost:
    """A Mac on which this GPUStack has been started once, with an archive of every release in ARCHIVES."""
    host = host or BoxHost()
    own = OWN[gpustack]
    if gpustack < "0.7":
        host.put(BUILTIN_0_6, program(own), 0o744)
        # GPUStack 0.6.0 makes this link absolute, later ones do not.
        host.link(f"{THIRD_PARTY}/llama-box/llama-box-rpc-server", BUILTIN_0_6 if gpustack == "0.6.0" else "llama-box")
        recorded = {"llama-box": own}
    else:
        for name, content in archives.contents(own, DYNAMIC).items():
            host.put(f"{FOLDER_0_7}/{name}", content, 0o744 if name == "llama-box" else 0o644)
        host.link(f"{FOLDER_0_7}/llama-box-rpc-server", "llama-box")
        host.link(LINK_0_7, FOLDER_0_7.rpartition("/")[2])
        recorded = {FOLDER_0_7.rpartition("/")[2]: own}
    host.put(f"{THIRD_PARTY}/versions.json", json.dumps({**recorded, "fastfetch": "2.25.0.1"}).encode(), 0o644)
    for version in VERSIONS:
        for build in builds(version):
            content = archives.pack(archives.contents(version, build))
            host.put(f"{ARCHIVES}/{version}/{archives.archive_name(build)}", content, 0o644)
    return host


def installed(gpustack: str | None = "0.6.2", **changed: t.Any) -> Installation:
    facts: dict[str, t.Any] = {"gpustack_version": gpustack, "third_party_bin": THIRD_PARTY, "bin_dir": BIN_DIR}
    return Installation("script", "launchd", "ai.gpustack", **{**facts, **changed})
