# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A Mac in memory whose kernel keeps the sysctls of the wired limit, and whose launchd knows the daemon that sets them at boot."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

LABEL = "org.metalfleet.wired-limit"
FOLDER = "/Library/LaunchDaemons"
PLIST = f"{FOLDER}/{LABEL}.plist"
LIMIT = "iogpu.wired_limit_mb"
COLLECTOR = "iogpu.disable_wired_collector"


class KernelMac(MemoryHost):
    """kernel: what sysctl knows. stuck: sysctl reports success and changes nothing. disabled: `launchctl disable` was used.

    bootout_code: what launchctl bootout ends with. boot_seconds: when it was booted.
    """

    def __init__(self, kernel: t.Optional[t.Mapping[str, int]] = None, **options: t.Any) -> None:
        super().__init__(**options)
        self.make_folder(FOLDER, 0o755)
        self.kernel = dict(kernel or {LIMIT: 0, COLLECTOR: 0})
        self.boot_seconds = 1_799_000_000
        self.stuck = False
        self.disabled = False
        self.bootout_code = 0

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        words = tuple(argv)
        if words in self.commands or words[0] not in ("/usr/sbin/sysctl", "launchctl"):
            return super().run(argv, timeout_seconds)
        self.calls.append(words)
        if words[0] == "launchctl":
            return self._launchctl(*words[1:])
        if "=" in words[1]:
            return self._set(*words[1].split("="))
        if words[1:] == ("-n", "kern.boottime"):
            return CommandResult(0, f"{{ sec = {self.boot_seconds}, usec = 0 }}\n", "")
        known = [name for name in words[1:] if name in self.kernel]
        unknown = [name for name in words[1:] if name not in self.kernel]
        stdout = "".join(f"{name}: {self.kernel[name]}\n" for name in known)
        return CommandResult(int(bool(unknown)), stdout, "".join(f"sysctl: unknown oid '{name}'\n" for name in unknown))

    def _set(self, name: str, value: str) -> CommandResult:
        old = self.kernel[name]
        if self.effective_uid() != 0:
            return CommandResult(1, f"{name}: {old}\n", f"sysctl: {name}: Operation not permitted\n")
        if not self.stuck:
            self.kernel[name] = int(value)
        return CommandResult(0, f"{name}: {old} -> {value}\n", "")

    def _launchctl(self, command: str, target: str) -> CommandResult:
        if command == "print-disabled":
            assert target == "system"
            word = "disabled" if self.disabled else "enabled"
            return CommandResult(0, f'\n\tdisabled services = {{\n\t\t"{LABEL}" => {word}\n\t}}\n', "")
        assert target == f"system/{LABEL}"
        if command in ("enable", "disable"):
            self.disabled = command == "disable"
            return CommandResult(0, "", "")
        assert command == "bootout"
        return CommandResult(self.bootout_code, "", "it was told to\n" if self.bootout_code else "")
