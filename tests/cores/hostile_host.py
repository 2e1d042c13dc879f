# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts, and a server of GPUStack, that say templates wherever they say a text of their own. cores.py runs the playbook on them.

What hostile_facts.py does with stand-ins for modules, this does with the collection's own modules and probes: host name, hardware, the
environment file, unit, drop-in and property list, what systemctl and launchctl show, and the API's answers.
"""

from __future__ import annotations

import json
import os
import pathlib
import plistlib
import subprocess
import sys
import typing as t

from fleet import HOSTS, ROOT, Fleet

# No slash, so that it may be the name of a file, and short enough for the name of a host.
TEMPLATE = "{{ lookup('pipe', 'touch $OWNED') }}"
CONTROL = TEMPLATE.replace("OWNED", "CONTROL")
PROFILE = ROOT / "tests/hosts/profiles/m3_ultra_512.json"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
UNIT = "/etc/systemd/system/gpustack.service"
# Each of these is shown, by a probe of the collection or by Ansible's own. Values of the environment that are not ours never are.
SHOWN = ("nodename", "drop_in", "worker", "model")


def template_of(what: str) -> str:
    """The template with a comment that tells where it was planted."""
    return TEMPLATE.replace("{{", "{{ '" + what + "' ~")


def write_profile(fleet: Fleet) -> str:
    """A simulated Mac whose hardware has such names."""
    profile = json.loads(PROFILE.read_text())
    profile.update(
        hw_model=template_of("model_identifier"), machine_name=TEMPLATE, model_number=TEMPLATE, chip=f"{profile['chip']} {TEMPLATE}"
    )
    path = fleet.folder / "hostile.json"
    path.write_text(json.dumps(profile))
    return str(path)


def plant(fleet: Fleet) -> None:
    """Everything that is said there, once GPUStack is installed."""
    environment = f"# {TEMPLATE}\nOWN={template_of('file')}\n{TEMPLATE}\n"
    for name in ("mac", "linux"):
        code = "import socket, sys; socket.sethostname(sys.stdin.read())"
        fleet.ssh(name, f'python3 -c "{code}"', template_of("nodename").encode())
        fleet.ssh(name, "mkdir -p /etc/default && cat > /etc/default/gpustack", environment.encode())
    content = plistlib.loads(fleet.ssh("mac", f"cat {PLIST}").encode())
    content["EnvironmentVariables"] = {"OWN": template_of("plist"), TEMPLATE: "1"}
    content["ProgramArguments"] += ["--token", template_of("argument")]
    fleet.ssh("mac", f"cat > {PLIST}", plistlib.dumps(content))
    fleet.ssh("mac", 'launchctl setenv OWN "$(cat)"', template_of("manager").encode())
    unit = fleet.ssh("linux", f"cat {UNIT}").replace("Description=", f"Description={TEMPLATE} ")
    fleet.ssh("linux", f"cat > {UNIT}", unit.replace("[Service]\n", f'[Service]\nEnvironment="OWN={template_of("unit")}"\n').encode())
    drop_in = f"mkdir -p {UNIT}.d && cat > {UNIT}.d/\"{{{{ 'drop_in' ~ lookup('pipe', 'touch \\$OWNED') }}}}.conf\""
    fleet.ssh("linux", drop_in, b"[Service]\nEnvironment=KEPT=1 GGML_METAL_NO_RESIDENCY=1\n")
    fleet.ssh("linux", 'systemctl set-environment OWN="$(cat)" && systemctl daemon-reload', template_of("manager").encode())


class Server:
    """GPUStack's API among the hosts."""

    def __init__(self, fleet: Fleet) -> None:
        command = [HOSTS, "run", fleet.session, "--", sys.executable, str(pathlib.Path(__file__).with_name("hostile_server.py"))]
        path = os.pathsep.join([str(ROOT / "tests/canaries"), str(ROOT / ".cache/collections"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert self._process.stdout is not None
        self.variables = json.loads(self._process.stdout.readline())

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_exception: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def environment_of(folder: pathlib.Path) -> dict[str, str]:
    """With it the templates would make these files."""
    return {"OWNED": str(folder / "owned"), "CONTROL": str(folder / "control")}


def look(fleet: Fleet, program: str) -> str:
    """What Ansible itself and the modules that only look say of the hosts; a trusted template makes its file."""
    tasks: list[dict[str, t.Any]] = [
        {"metalfleet.gpustack.node_info": {}, "register": "seen"},
        {"metalfleet.gpustack.apple_silicon_facts": {}},
        {"ansible.builtin.debug": {"msg": ["{{ ansible_facts.nodename }}", "{{ ansible_facts.apple_silicon }}", "{{ seen.node }}"]}},
        {"ansible.builtin.debug": {"msg": CONTROL}, "run_once": True},
    ]
    path = fleet.folder / "look.yml"
    path.write_text(json.dumps([{"hosts": "gpustack", "become": True, "tasks": tasks}]))
    command = fleet.playbook_command(str(path), "-vvv", program=program)
    environment = {**os.environ, **environment_of(fleet.folder)}
    result = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    if result.returncode != 0:
        sys.exit(f"{program}: cannot look at hostile hosts\n{result.stdout}")
    return result.stdout


def judge(fleet: Fleet, program: str, outputs: t.Iterable[str]) -> None:
    """End the test if anything was evaluated, or is not shown as it is."""
    said = "\n".join(outputs)
    if (fleet.folder / "owned").exists():
        sys.exit(f"{program}: evaluated what a host or the server said\n{said}")
    if not (fleet.folder / "control").exists():
        sys.exit(f"{program}: a template of our own was not evaluated, so that the others were not says nothing")
    missing = [what for what in SHOWN if template_of(what) not in said]
    if missing:
        sys.exit(f"{program}: what was planted as {', '.join(missing)} is shown nowhere, or not as it is\n{said}")
    (fleet.folder / "control").unlink()
