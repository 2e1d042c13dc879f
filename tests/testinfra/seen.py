# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Look at a disposable host itself: nothing here asks a module of the collection."""

from __future__ import annotations

import base64
import json
import plistlib
import typing as t

if t.TYPE_CHECKING:
    from testinfra.host import Host

VARIABLE = "GGML_METAL_NO_RESIDENCY"
ENVIRONMENT_FILE = "/etc/default/gpustack"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"

# A simulated Mac shows no /proc to programs; its kernel is Linux all the same, and this is where it is for the tests.
_PROCESSES = """
import glob, json, os, pathlib
root = '/.sim/proc' if os.path.isdir('/.sim/proc') else '/proc'
found = []
for folder in glob.glob(root + '/[0-9]*'):
    try:
        command = pathlib.Path(folder, 'cmdline').read_bytes().split(b'\\0')
        environment = pathlib.Path(folder, 'environ').read_bytes().split(b'\\0')
    except OSError:
        continue
    words = [os.path.basename(word).decode() for word in command[:2]]
    if set(words) & {'gpustack', 'llama-box'}:
        pairs = [pair.decode().split('=', 1) for pair in environment if b'=' in pair]
        found.append([' '.join(words), dict(pairs)])
print(json.dumps(found))
"""


def processes(host: Host) -> list[tuple[str, dict[str, str]]]:
    """Name and real environment of each process of the service."""
    output = host.check_output("python3 -c %s", _PROCESSES)
    return list(map(tuple, json.loads(output)))


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
