# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts in memory on which a run dies before its n-th change, as of the power cord, and what can be asked of them afterwards."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.installation import find_installation
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import read_journal
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.outcome import Outcome
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import read_pending, state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.resource import Resource
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.transaction import Options, carry_out
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import FakeLaunchd, FakeSystemd
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

_LOOKS = ("print", "print-disabled", "getenv", "show", "show-environment")


class DeathError(BaseException):
    """Nothing may catch it."""


class _Mortal(MemoryHost):
    """dies_at: before which change (from 1) it dies; 0 never. points: the changes, the one before which it died included.

    A change that the host in memory makes in two steps counts as two, so that something is gone in between, as where a system
    cannot exchange two names. kernel: what `kernel set NAME=VALUE` has set.
    """

    def __init__(self, **options: t.Any) -> None:
        self.dies_at = 0
        self.points: t.List[str] = []
        self.kernel: t.Dict[str, str] = {}
        super().__init__(**options)

    def _point(self, what: str) -> None:
        self.points.append(what)
        if len(self.points) == self.dies_at:
            raise DeathError(what)

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        words = [word for word in argv if word != "--no-pager"]
        if words[0] == "kernel":
            self._point(" ".join(words))
            name, _equals, value = words[2].partition("=")
            self.kernel[name] = value
            return CommandResult(0, "", "")
        if (words[0] in ("launchctl", "systemctl") and words[1] not in _LOOKS) or (words[0].endswith("sysctl") and "=" in words[-1]):
            self._point(" ".join(words))
        return super().run(argv, timeout_seconds)

    def write(self, path: str, data: bytes, mode_if_new: int, mode: t.Optional[int] = None) -> None:
        self._point(f"write {path}")
        super().write(path, data, mode_if_new, mode)

    def make_folder(self, path: str, mode: int) -> None:
        if path not in self.folders:
            self._point(f"make_folder {path}")
        super().make_folder(path, mode)

    def remove(self, path: str) -> None:
        if self._kind(path) != "absent":
            self._point(f"remove {path}")
        super().remove(path)

    def rename(self, old: str, new: str) -> None:
        self._point(f"rename {old} {new}")
        super().rename(old, new)

    def create(self, path: str, pieces: t.Iterable[bytes], mode: int) -> None:
        self._point(f"create {path}")
        super().create(path, pieces, mode)

    def append(self, path: str, pieces: t.Iterable[bytes], mode_if_new: int) -> None:
        self._point(f"append {path}")
        super().append(path, pieces, mode_if_new)

    def place_file(self, source: str, path: str, mode: int, sha256: str) -> None:
        self._point(f"place_file {path}")
        super().place_file(source, path, mode, sha256)

    def place_folder(self, source: str, path: str, files: t.Mapping[str, str], links: t.Mapping[str, str]) -> None:
        self._point(f"place_folder {path}")
        super().place_folder(source, path, files, links)

    def place_link(self, path: str, target: str) -> None:
        self._point(f"place_link {path}")
        super().place_link(path, target)

    def snapshot(self, path: str, backup: str) -> str:
        if self._kind(path) != "absent":
            self._point(f"snapshot {path}")
        return super().snapshot(path, backup)

    def restore(self, path: str, backup: str, kind: str) -> None:
        self._point(f"restore {path}")
        super().restore(path, backup, kind)


class MortalMac(_Mortal, FakeLaunchd):
    """A Mac that may die."""


class MortalLinux(_Mortal, FakeSystemd):
    """A Linux machine that may die."""


Mortal = t.Union[MortalMac, MortalLinux]


def run(host: Mortal, resources: t.Sequence[Resource], check_mode: bool = False, **options: t.Any) -> Outcome:
    """One run of a module with these resources."""
    return carry_out(host, find_installation(host), resources, Options(**options), check_mode)  # type: ignore[arg-type]


def dying_run(host: Mortal, resources: t.Sequence[Resource], number: int, **options: t.Any) -> str:
    """A run that dies before its change of that number; returns what that would have been."""
    host.points, host.dies_at = [], number
    try:
        run(host, resources, **options)
    except DeathError as death:
        return str(death)
    finally:
        host.points, host.dies_at = [], 0
    raise AssertionError(f"the run has less than {number} changes")


def state_of(host: Mortal) -> t.Dict[str, t.Any]:
    """All that a transaction may change, apart from its own notes."""
    hidden = (f"{state_folder(host)}/", "/proc/")  # type: ignore[arg-type]
    found: t.Dict[str, t.Any] = {
        path: (file.content, file.target, file.mode, file.uid) for path, file in host.files.items() if not path.startswith(hidden)
    }
    found["kernel"] = dict(host.kernel)
    found["manager"] = dict(host.domain if isinstance(host, MortalMac) else host.manager)
    return found


def is_accounted_for(host: Mortal, *states: t.Mapping[str, t.Any]) -> bool:
    """Whether the host is in one of the states, or a journal says that it is on its way."""
    return read_journal(host) is not None or state_of(host) in states  # type: ignore[arg-type]


def own_files(host: Mortal) -> t.List[str]:
    """The transaction's own notes, by what stands for all of its kind."""
    folder = f"{state_folder(host)}/"  # type: ignore[arg-type]
    names = {path[len(folder) :].split("/")[0].rstrip("0123456789") for path in host.files if path.startswith(folder)}
    return sorted(names - {"lock"})


def is_at_rest(host: Mortal) -> bool:
    """Whether no run has left anything to do."""
    return read_journal(host) is None and read_pending(host) is None  # type: ignore[arg-type]
