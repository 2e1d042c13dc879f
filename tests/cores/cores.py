# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook under every ansible-core that the collection supports and a Python of this machine can run.

Each version, in a virtual environment of its own, finds a Mac and a Linux host with the fault of gpustack#1907, cures it,
and finds nothing to do afterwards. A secret that each gives to the hosts must not be in its output, however wordy that is.
What hosts and server say is shown, and never a template (hostile_host.py). A version for which there is no Python is named in
a line that starts with `not run:`.
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing as t

import archives
import hostile_host
from fleet import ROOT, Fleet

# The last of each series, and the Pythons that it supports on the controller, the best first.
VERSIONS = {
    "2.18.19": ("3.11", "3.12", "3.13"),
    "2.19.14": ("3.12", "3.11", "3.13"),
    "2.20.10": ("3.12", "3.13", "3.14"),
    "2.21.5": ("3.13", "3.12", "3.14"),
}
VARIABLE = "GGML_METAL_NO_RESIDENCY"
CANARY = "canary-of-the-cores"
RELEASE = "v0.0.139"
# Text that looks like something else; before 2.19 a template's result may be taken for a number, a truth value or nothing.
LOOKS_LIKE = {"DIGITS": "0123", "WORD": "True", "NOTHING": "None", "LIST": "[1,2]"}


def find_python(versions: tuple[str, ...]) -> str | None:
    """The first of these Pythons that is here, with what a virtual environment needs."""
    for version in versions:
        python = shutil.which(f"python{version}")
        if python and subprocess.run([python, "-c", "import ensurepip"], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return str(pathlib.Path(python).resolve())
    return None


def install(version: str, python: str) -> pathlib.Path:
    """ansible-core in .cache/cores/VERSION; a build that was cut short is not taken for one."""
    venv = ROOT / ".cache" / "cores" / version
    if not (venv / "ready").exists():
        subprocess.run([python, "-m", "venv", "--clear", str(venv)], check=True)
        subprocess.run([str(venv / "bin/pip"), "install", "-qq", "--disable-pip-version-check", f"ansible-core=={version}"], check=True)
        (venv / "ready").touch()
    return venv / "bin/ansible-playbook"


def with_each(check: t.Callable[[str, str], None]) -> None:
    """Call check(version, ansible-playbook) for every version for which there is a Python, and name the others."""
    for version, pythons in VERSIONS.items():
        python = find_python(pythons)
        if python is None:
            print(f"not run: ansible-core {version}, which needs Python {' or '.join(pythons)}")
        else:
            check(version, str(install(version, python)))


def run_site(fleet: Fleet, program: pathlib.Path) -> tuple[list[str], str]:
    """How many tasks changed something on each host, and the output."""
    command = fleet.playbook_command("metalfleet.gpustack.site", "--diff", "-vvvv", program=str(program))
    environment = {**os.environ, "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "true", **hostile_host.environment_of(fleet.folder)}
    result = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    if CANARY in result.stdout:
        line = next(line for line in result.stdout.splitlines() if CANARY in line)
        sys.exit(f"{program}: a secret is shown: {line[:2000]}")
    if result.returncode != 0 or "DEPRECAT" in result.stdout:
        sys.exit(f"{program}: failed or uses what is deprecated\n{result.stdout}")
    return re.findall(r"^\S+ +: ok=\d+ +changed=(\d+)", result.stdout, flags=re.MULTILINE), result.stdout


def lock_releases(fleet: Fleet) -> None:
    """A lock file and archives beside the inventory, where a fleet has them."""
    releases = {}
    for build in ("darwin-arm64-metal", "linux-amd64-avx2"):
        archives.place(fleet.folder / "archives", RELEASE, build)
        releases[build] = archives.release_data(fleet.folder / "archives", "https://mirror.invalid", RELEASE, build)
    # JSON is YAML.
    (fleet.folder / "llama_box.lock.yml").write_text(json.dumps({"format": 1, "releases": {RELEASE: releases}}))


def require_text(fleet: Fleet, version: str) -> None:
    """Values are in the file as they were given."""
    for name in ("mac", "linux"):
        lines = fleet.ssh(name, "cat /etc/default/gpustack").splitlines()
        missing = [f"{key}={value}" for key, value in LOOKS_LIKE.items() if f"{key}={value}" not in lines]
        if missing:
            sys.exit(f"ansible-core {version}: {name} has {lines}, and not {missing}")


def write_inventory(fleet: Fleet, server: t.Mapping[str, t.Any]) -> None:
    """server: the variables with which it is reached."""
    variables = {
        "gpustack_node_environment": LOOKS_LIKE,
        "gpustack_node_secrets": {"HF_TOKEN": CANARY},
        "gpustack_node_llama_box_version": RELEASE,
        "gpustack_node_llama_box_source": "push",
        "gpustack_node_llama_box_archives_folder": str(fleet.folder / "archives"),
        "gpustack_node_wired_limit_state": "present",
        "gpustack_node_settle_seconds": 1,
        # What is omitted is left out under every ansible-core, which differ in what they have in its place.
        **dict.fromkeys(("gpustack_node_environment_mode", "gpustack_node_service_name"), "{{ omit }}"),
        **server,
    }
    # The same lines from a template.
    lines = "{% for name, value in gpustack_node_environment.items() %}\n{{ name }}={{ value }}\n{% endfor %}\n"
    (fleet.folder / "own.j2").write_text(lines)
    own = {"gpustack_node_environment_template": "{{ inventory_dir }}/own.j2"}
    inventory = {"gpustack": {"hosts": {"mac": {}, "linux": own}, "vars": variables}}
    (fleet.folder / "inventory.yml").write_text(json.dumps(inventory))


def plant(fleet: Fleet) -> None:
    """The fault, in what each service reads at its next start."""
    fleet.ssh("mac", f"launchctl setenv {VARIABLE} 1")
    fleet.ssh("linux", f"systemctl set-environment {VARIABLE}=1")


def main() -> None:
    """One fleet for all versions."""
    found = {version: find_python(pythons) for version, pythons in VERSIONS.items()}
    programs = {version: install(version, python) for version, python in found.items() if python is not None}
    with Fleet("cores") as fleet:
        fleet.boot({"mac": f"mac:{hostile_host.write_profile(fleet)}", "linux": "linux"})
        lock_releases(fleet)
        fleet.install_stand_in("mac", "--kind", "script")
        fleet.install_stand_in("linux", "--kind", "systemd")
        hostile_host.plant(fleet)
        with hostile_host.Server(fleet) as server:
            write_inventory(fleet, server.variables)
            for version, program in programs.items():
                plant(fleet)
                looked = hostile_host.look(fleet, str(program))
                (first, said_first), (second, said_second) = run_site(fleet, program), run_site(fleet, program)
                if (first, second) != (["1", "1"], ["0", "0"]):
                    sys.exit(f"ansible-core {version}: {first} changes at first and {second} afterwards\n{said_first}\n{said_second}")
                require_text(fleet, version)
                hostile_host.judge(fleet, str(program), (looked, said_first, said_second))
                print(f"ansible-core {version}: cured, then nothing to do; nothing that hosts or server say is a template", flush=True)
    for version, python in found.items():
        if python is None:
            print(f"not run: ansible-core {version}, which needs Python {' or '.join(VERSIONS[version])}")
    print(f"{len(programs)} passed, 0 failed")


if __name__ == "__main__":
    main()
