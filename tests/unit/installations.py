# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts in memory with GPUStack on them."""

from __future__ import annotations

import pathlib

from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult, FileStatus
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.systemd import PROPERTIES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile, MemoryHost

FIXTURES = pathlib.Path(__file__).parent / "fixtures" / "installation"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
APPLICATION = "/Applications/GPUStack.app"
DESKTOP_PLIST = "/Library/Application Support/GPUStack/ai.gpustack.plist"
UNIT = "/etc/systemd/system/gpustack.service"
SHOW = ("systemctl", "--no-pager", "show", "gpustack.service", "-p", PROPERTIES)
SECRETS = ("synthetic-secret-token", "synthetic-secret-value")


class ShyHost(MemoryHost):
    """A host that refuses even to say whether something is there, below some folders."""

    hidden: tuple[str, ...] = ()

    def status(self, path: str) -> FileStatus | None:
        if path.startswith(self.hidden):
            raise HostError(f"{path} cannot be examined: Permission denied")
        return super().status(path)


def shy(host: MemoryHost, *hidden: str) -> ShyHost:
    """The same host, which hides what lies below some folders."""
    result = ShyHost(host.system(), host.machine(), host.commands, host.files, host.effective_uid(), [*host.unreadable, *hidden])
    result.hidden = hidden
    return result


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


def metadata(version: str) -> bytes:
    return f"Metadata-Version: 2.1\nName: gpustack\nVersion: {version}\nSummary: GPUStack\n".encode()


def venv_files(home: str, version: str, python: str = "python3.11") -> dict[str, bytes | MemoryFile]:
    """What pipx leaves behind: a console script and a virtual environment with the package in it."""
    venv = f"{home}/.local/pipx/venvs/gpustack"
    site = f"{venv}/lib/{python}/site-packages"
    script = fixture("synthetic_console_script.py.txt").replace(b"/root/", f"{home}/".encode())
    return {
        f"{home}/.local/bin/gpustack": MemoryFile(target=f"{venv}/bin/gpustack"),
        f"{venv}/bin/gpustack": MemoryFile(script, mode=0o755),
        f"{venv}/bin/python": MemoryFile(target="/opt/homebrew/bin/python3.11"),
        "/opt/homebrew/bin/python3.11": MemoryFile(b"\xcf\xfa\xed\xfe", mode=0o755),
        f"{venv}/pyvenv.cfg": b"home = /opt/homebrew/bin\n",
        f"{site}/gpustack/__init__.py": f"__version__ = 'v{version}'\n__git_commit__ = 'abc1234'\n".encode(),
        f"{site}/gpustack/third_party/.gitkeep": b"",
        f"{site}/gpustack-{version}.dist-info/METADATA": metadata(version),
    }


def script_mac(version: str = "0.6.2", plist: bytes | None = None) -> MemoryHost:
    """A Mac on which install.sh was run."""
    files = venv_files("/Users/synthetic", version)
    return MemoryHost(files={**files, PLIST: fixture("synthetic_script.plist") if plist is None else plist})


def shown(**properties: str) -> CommandResult:
    usual = {"LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead", "MainPID": "0", "FragmentPath": UNIT}
    return CommandResult(0, "".join(f"{name}={value}\n" for name, value in {**usual, **properties}.items()), "")


def systemd_linux(version: str = "0.6.2", unit: bytes | None = None, **properties: str) -> MemoryHost:
    """A Linux machine on which install.sh was run."""
    files = venv_files("/root", version)
    return MemoryHost(
        system="Linux",
        machine="x86_64",
        files={**files, UNIT: fixture("synthetic_gpustack.service") if unit is None else unit},
        commands={SHOW: shown(**properties)},
    )
