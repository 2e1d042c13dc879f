# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a disposable host itself: nothing here asks a module of the collection."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import plistlib
import typing as t

import yaml

if t.TYPE_CHECKING:
    from testinfra.host import Host

VARIABLE = "GGML_METAL_NO_RESIDENCY"
ENVIRONMENT_FILE = "/etc/default/gpustack"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
# The llama-box that each GPUStack brings.
OWN = {"0.6.0": "v0.0.136", "0.6.1": "v0.0.144", "0.6.2": "v0.0.154", "0.7.0": "v0.0.164", "0.7.1": "v0.0.171"}

_ON_HOST = pathlib.Path(__file__).with_name("on_host.py").read_text()


def look(host: Host) -> dict[str, t.Any]:
    """What on_host.py sees."""
    seen: dict[str, t.Any] = json.loads(host.check_output("python3 -c %s", _ON_HOST))
    return seen


def processes(host: Host) -> list[tuple[str, dict[str, str]]]:
    """Name and real environment of each process of the service."""
    return [(process["name"], process["environment"]) for process in look(host)["processes"]]


def locked(version: str, build: str) -> dict[str, str]:
    """The digests of the files of a release in the lock of this scenario."""
    lock = yaml.safe_load(pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "llama_box.lock.yml").read_text())
    files: dict[str, str] = lock["releases"][version][build]["files"]
    return files


def sysctl(host: Host, name: str) -> int:
    """The live value of a number."""
    return int(host.check_output("sysctl -n %s", name))


def read(host: Host, path: str) -> bytes | None:
    """A file byte for byte, None where there is none."""
    result = host.run("test -e %s && base64 < %s", path, path)
    return base64.b64decode(result.stdout) if result.rc == 0 else None


def plist_environment(host: Host) -> dict[str, str]:
    """The environment in the property list."""
    content = read(host, PLIST)
    assert content is not None
    environment = plistlib.loads(content).get("EnvironmentVariables", {})
    assert isinstance(environment, dict)
    return environment


def loaded_job(host: Host) -> str:
    """What launchd says of the job."""
    return str(host.check_output("launchctl print system/ai.gpustack"))


def starts(host: Host) -> int:
    """How often the stand-in service was started on this host."""
    return len((read(host, "/var/log/gpustack-starts.log") or b"").splitlines())


def mode(host: Host, path: str) -> str:
    """Permission bits in octal, links followed."""
    return str(host.check_output("python3 -c 'import os, sys; print(oct(os.stat(sys.argv[1]).st_mode & 0o7777))' %s", path))


def assert_llama_box(host: Host, version: str, build: str, starts: int) -> dict[str, t.Any]:
    """The release of the lock is in both slots and runs as the RPC server of a service that was started so often."""
    found = look(host)
    files = locked(version, build)
    # 0.6 knows only the program.
    wanted = files if build.startswith("dl-") else {"llama-box": files["llama-box"]}
    builtin, pinned = found["llama_box"]["builtin"], found["llama_box"]["pinned"][version]
    for program in (builtin, pinned):
        assert (program["version"], program["mode"]) == (version, "0o755")
        assert program["sha256"] == wanted["llama-box"]
    assert builtin["files"] == wanted
    running = found["rpc"]["running"]
    assert [one["sha256"] for one in running] == [wanted["llama-box"]]
    assert found["starts"] == found["rpc"]["starts"] == starts
    return found


def assert_record(host: Host, gpustack: str, device: str = "linux-amd64") -> None:
    """GPUStack's own record names what it brought, byte for byte as it was. device: as in the name of its folder."""
    own = OWN[gpustack]
    content = json.dumps({f"llama-box-{own}-{device}" if gpustack.startswith("0.7") else "llama-box": own}).encode()
    assert look(host)["llama_box"]["versions_json"] == [hashlib.sha256(content).hexdigest()]
