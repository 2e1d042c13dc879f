# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole nodes in memory: a service that keeps its environment, llama-box programs that say their version, a kernel with a wired limit.

They may die before their n-th change (see fault_points).
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import typing as t

import pytest
import yaml
from ansible.module_utils import basic
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.journal import read_journal
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.pending import read_pending, state_folder
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import SYSCTL_NAMES, VIRTUAL_NAMES
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wanted_digest import digest_of
from ansible_collections.metalfleet.gpustack.plugins.modules import node as module
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.unit import fake_kernel, llama_box_nodes
from ansible_collections.metalfleet.gpustack.tests.unit.fake_services import LABEL, PLIST, UNIT, UNIT_FILE
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryFile
from ansible_collections.metalfleet.gpustack.tests.unit.fault_points import DeathError, MortalLinux, MortalMac
from ansible_collections.metalfleet.gpustack.tests.unit.installations import metadata
from ansible_collections.metalfleet.gpustack.tests.unit.llama_box_nodes import ARCHIVES, BIN_DIR, SITE, BoxHost, sha256

FILE = "/etc/default/gpustack"
RESIDENCY = "GGML_METAL_NO_RESIDENCY"
VERSION = "v0.0.139"
VERSIONS = (VERSION, "v0.0.144", "v0.0.168")
BUILDS = {"Darwin": ("darwin-arm64-metal", "dl-darwin-arm64-metal"), "Linux": ("linux-arm64-neon", "dl-linux-arm64-cpu")}
# The limit that `auto` means on a Mac with 512 GiB.
AUTO_MIB = 475136
RPC_SERVER = "/opt/gpustack/llama-box/llama-box-rpc-server --rpc-server-host 0.0.0.0 --rpc-server-port 50052"
LINUX_OWN = "v0.0.154"


class NodeMac(MortalMac, BoxHost):
    """A Mac Studio with 512 GiB and GPUStack in a virtual environment, which has run for an hour. kernel: its sysctls."""

    kernel: t.Any

    def __init__(self, gpustack: str = "0.6.2", environment: dict[str, str] | None = None) -> None:
        super().__init__(environment=environment)
        install(self, gpustack)
        llama_box_nodes.node(gpustack, self)
        facts = {"hw.optional.arm64": 1, "hw.model": "Mac15,14", "hw.memsize": 512 * 1024**3, "kern.hv_vmm_present": 0}
        stdout = "".join(f"{name}: {value}\n" for name, value in facts.items())
        self.mac = fake_kernel.KernelMac()
        self.mac.commands = {
            ("/usr/sbin/sysctl", *SYSCTL_NAMES): CommandResult(1, stdout, ""),
            ("/usr/sbin/sysctl", *VIRTUAL_NAMES): CommandResult(0, "kern.hv_vmm_present: 0\n", ""),
        }
        self.commands[("/usr/bin/sw_vers", "-productVersion")] = CommandResult(0, "26.1\n", "")
        self.kernel = self.mac.kernel
        settle(self)

    def run(self, argv: t.Sequence[str], timeout_seconds: float = 30.0) -> CommandResult:
        words = tuple(argv)
        is_ours = words[0] == "launchctl" and words[-1] == f"system/{fake_kernel.LABEL}"
        if words in self.commands or not (is_ours or words[0] == "/usr/sbin/sysctl"):
            return super().run(argv, timeout_seconds)
        self.calls.append(words)
        if is_ours or "=" in words[-1]:
            self._point(" ".join(words))
        result = self.mac.run(argv, timeout_seconds)
        self.disabled[fake_kernel.LABEL] = self.mac.disabled
        return result

    def start_anew(self) -> None:
        """Somebody loads the service with the files that are there now."""
        self.run(["launchctl", "bootout", f"system/{LABEL}"])
        self.run(["launchctl", "bootstrap", "system", PLIST])
        self.stops, self.points = 0, []

    def disable_daemon(self) -> None:
        """What `launchctl unload -w` does to the daemon of the wired limit."""
        self.mac.disabled = self.disabled[fake_kernel.LABEL] = True


class NodeLinux(MortalLinux, BoxHost):
    """A Linux machine without accelerator and with GPUStack 0.6.2 in a virtual environment, which has run for an hour."""

    def __init__(self) -> None:
        unit = f"[Service]\nExecStart=/usr/local/bin/gpustack start\nEnvironmentFile=-{FILE}\n"
        super().__init__(files={UNIT_FILE: unit.encode()})
        install(self, "0.6.2")
        build = BUILDS["Linux"][0]
        folder = f"{llama_box_nodes.THIRD_PARTY}/llama-box"
        self.put(f"{folder}/llama-box", archives.program(LINUX_OWN, build))
        self.link(f"{folder}/llama-box-rpc-server", "llama-box")
        self.put(f"{llama_box_nodes.THIRD_PARTY}/versions.json", json.dumps({"llama-box": LINUX_OWN}).encode(), 0o644)
        for version in VERSIONS:
            self.put(f"{ARCHIVES}/{version}/{archives.archive_name(build)}", archives.pack(archives.contents(version, build)), 0o644)
        settle(self)

    def start_anew(self) -> None:
        """Somebody starts the service with the files that are there now."""
        self.run(["systemctl", "--no-pager", "daemon-reload"])
        self.run(["systemctl", "--no-pager", "restart", UNIT])
        self.stops, self.points = 0, []


Node = t.Union[NodeMac, NodeLinux]
KINDS: dict[str, t.Callable[[], Node]] = {"mac": NodeMac, "mac_0_7": lambda: NodeMac("0.7.1"), "linux": NodeLinux}


def install(host: Node, gpustack: str) -> None:
    """GPUStack's package, and that it answers."""
    host.put("/venv/bin/gpustack", b"#!/venv/bin/python\n")
    host.put("/venv/bin/python", b"")
    host.put("/venv/pyvenv.cfg", b"")
    host.put(f"{SITE}/gpustack-{gpustack}.dist-info/METADATA", metadata(gpustack))
    host.put(f"{SITE}/gpustack/__init__.py", b"")
    host.link("/usr/local/bin/gpustack", "/venv/bin/gpustack")
    host.http[(80, "/healthz")] = 200


def settle(host: Node) -> None:
    """It has run for an hour with an RPC server."""
    host.children = [RPC_SERVER]
    host.clock += 3600.0
    for folder in ("/etc/default", fake_kernel.FOLDER, BIN_DIR):
        host.make_folder(folder, 0o755)
    host.points = []


@functools.cache
def _lock_text(system: str) -> str:
    releases: dict[str, t.Any] = {}
    for version in VERSIONS:
        static, dynamic = BUILDS[system]
        for build in (static, dynamic) if version >= "v0.0.157" else (static,):
            files = archives.contents(version, build)
            archive = archives.pack(files)
            releases.setdefault(version, {})[build] = {
                "url": f"https://mirror.invalid/{version}/{build}.zip",
                "sha256": sha256(archive),
                "size_bytes": len(archive),
                "files": {name: sha256(content) for name, content in files.items()},
            }
    return json.dumps({"format": 1, "releases": releases})


def lock_of(system: str) -> dict[str, t.Any]:
    """The content of a lock file for one kind of node."""
    content: dict[str, t.Any] = json.loads(_lock_text(system))
    return content


def llama_box(host: Node, version: str = VERSION, **options: t.Any) -> dict[str, t.Any]:
    """The option with archives on the node."""
    return {"version": version, "lock": lock_of(host.system()), "source": "folder", "folder": ARCHIVES, **options}


def everything(host: Node, **options: t.Any) -> dict[str, t.Any]:
    """All three resources."""
    return {
        "llama_box": llama_box(host),
        "wired_limit": {"disable_wired_collector": True},
        "environment": {"variables": {"HF_ENDPOINT": "https://hub.example.com"}, "mode": "0600"},
        "settle_seconds": 0.0,
        **options,
    }


def validated(spec: t.Mapping[str, t.Any], given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Options as Ansible hands them to a module."""
    found = ArgumentSpecValidator(spec).validate(given)
    assert not found.error_messages, found.error_messages
    parameters: dict[str, t.Any] = found.validated_parameters
    return parameters


def bring(host: Node, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
    """The module node, with exactly these options, as the action plugin calls it; its warnings are part of the result."""
    given = {**options, "receipt_for": digest_of(options)}
    result, warnings = module.bring_to_state(host, validated(module.ARGUMENT_SPEC, given), check_mode)  # type: ignore[arg-type]
    return {**result, "warnings": warnings}


def dies(host: Node, number: int, run: t.Callable[[], object]) -> str:
    """A run that dies before its change of that number; returns what that would have been."""
    host.points, host.dies_at = [], number
    try:
        run()
    except DeathError as death:
        return str(death)
    finally:
        host.points, host.dies_at = [], 0
    raise AssertionError(f"the run has less than {number} changes")


def state_of(host: Node) -> dict[str, t.Any]:
    """Files (not the collection's own), modes, and what is no file."""
    hidden = (f"{state_folder(host)}/", "/proc/")  # type: ignore[arg-type]
    found: dict[str, t.Any] = {
        path: (file.content, file.target, file.mode, file.uid) for path, file in host.files.items() if not path.startswith(hidden)
    }
    found["kernel"] = dict(host.kernel)
    found["manager"] = dict(host.domain if isinstance(host, NodeMac) else host.manager)
    found["disabled"] = {label for label, value in host.disabled.items() if value} if isinstance(host, NodeMac) else set()
    return found


def is_at_rest(host: Node) -> bool:
    """Whether no run has left anything to do."""
    return read_journal(host) is None and read_pending(host) is None  # type: ignore[arg-type]


def write(host: Node, path: str, content: bytes, mode: int = 0o644) -> None:
    """Somebody writes a file, as with an editor that replaces it."""
    host._put(path, MemoryFile(content, mode=mode))


def run_main(module: t.Any, host: Node, monkeypatch: pytest.MonkeyPatch, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
    """A module as Ansible starts it, on a node in memory; its warnings are part of the result."""
    monkeypatch.setattr(module, "Host", lambda: host)
    internal = {"_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False, "_ansible_check_mode": check_mode}
    monkeypatch.setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": {**internal, **options}}).encode())
    # From ansible-core 2.19 on, arguments come with the name of their serialization.
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    # What ansible-core makes of warnings differs by version, and outlives the module in this process.
    warned: list[str] = []
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _self, warning: warned.append(warning))
    output = io.StringIO()
    with contextlib.redirect_stdout(output), pytest.raises(SystemExit) as ended:
        module.main()
    result: dict[str, t.Any] = json.loads(output.getvalue())
    assert bool(ended.value.code) is bool(result.get("failed"))
    # ansible-core before 2.21 adds what it was called with.
    result.pop("invocation", None)
    return {**result, "warnings": warned}


def documented(text: str) -> dict[str, t.Any]:
    """Return values as documented."""
    content: dict[str, t.Any] = yaml.safe_load(text)
    return content


_TYPES = {"str": str, "bool": bool, "int": int, "float": float, "list": list, "dict": dict}


def _is_of(value: t.Any, documented: str) -> bool:
    # A bool is an int, and not documented as one.
    return isinstance(value, _TYPES[documented]) and isinstance(value, bool) == (documented == "bool")


def undocumented(values: t.Mapping[str, t.Any], docs: t.Mapping[str, t.Any], where: str = "") -> list[str]:
    """What is not documented among return values, or as another type; null may always be."""
    found = []
    for name, value in values.items():
        doc = docs.get(name)
        if doc is None:
            found.append(f"{where}{name}: not documented")
        elif value is not None and not _is_of(value, doc["type"]):
            found.append(f"{where}{name}: {value!r} is no {doc['type']}")
        elif isinstance(value, dict) and "contains" in doc:
            found += undocumented(value, doc["contains"], f"{where}{name}.")
        elif isinstance(value, list):
            for one in value:
                if not _is_of(one, doc["elements"]):
                    found.append(f"{where}{name}: {one!r} is no {doc['elements']}")
                elif isinstance(one, dict) and "contains" in doc:
                    found += undocumented(one, doc["contains"], f"{where}{name}.")
    return found
