# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put a stand-in for GPUStack on this disposable host. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import plistlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

VARIABLE = "GGML_METAL_NO_RESIDENCY"
ENVIRONMENT_FILE = pathlib.Path("/etc/default/gpustack")
DESKTOP = pathlib.Path("/Library/Application Support/GPUStack")
PLIST = pathlib.Path("/Library/LaunchDaemons/ai.gpustack.plist")
UNIT = pathlib.Path("/etc/systemd/system/gpustack.service")
BUILTIN = {"0.6.0": "v0.0.136", "0.6.1": "v0.0.144", "0.6.2": "v0.0.154", "0.7.0": "v0.0.164", "0.7.1": "v0.0.171"}

# That of service.py.
RPC_PORT = 40064
# GPUStack's download site, so to say: service.py gets it from there again.
OWN_LLAMA_BOX = pathlib.Path("/opt/gpustack-own/llama-box")
# What service.py is told to be.
WORDS = pathlib.Path("/etc/gpustack-stand-in")

LLAMA_BOX = """#!/usr/bin/python3
import socket, sys, time
if "--version" in sys.argv:
    sys.stderr.write("version    : @VERSION@ (stand-in)\\n")
    sys.exit(0)
if "--rpc-server-port" in sys.argv:
    listener = socket.create_server(("0.0.0.0", int(sys.argv[sys.argv.index("--rpc-server-port") + 1])))
    clients = []
    while True:
        clients.append(listener.accept())
while True:
    time.sleep(3600)
"""


def write(path: pathlib.Path, text: str, mode: int = 0o644) -> None:
    """Write a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def platform_name() -> str:
    """The system, architecture and device in the name of a 0.7 folder."""
    system = os.uname()
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(system.machine, system.machine)
    return f"{system.sysname.lower()}-{machine}" + ("-mps" if system.sysname == "Darwin" and machine == "arm64" else "")


def install_llama_box(tools: pathlib.Path, version: str) -> dict[str, str]:
    """GPUStack's own llama-box with the links that it makes; returns what service.py has to know."""
    own = BUILTIN[version]
    key = "llama-box"
    folder = tools / "llama-box"
    rpc_folder = folder
    if version.startswith("0.7"):
        # From 0.7 on each build has a folder of its own, named in versions.json, and a link says which one is used.
        key = f"llama-box-{own}-{platform_name()}"
        rpc_folder = folder / "llama-box-default"
        folder /= key
    program = folder / "llama-box"
    write(program, LLAMA_BOX.replace("@VERSION@", own), 0o755)
    write(OWN_LLAMA_BOX, program.read_text(), 0o755)
    # 0.6.0 makes an absolute link, later ones a relative one.
    program.with_name("llama-box-rpc-server").symlink_to(program if version == "0.6.0" else program.name)
    if rpc_folder != folder:
        rpc_folder.symlink_to(key)
    record = tools / "versions.json"
    write(record, json.dumps({key: own}))
    return {
        "llama_box": str(program),
        "rpc_server": f"{rpc_folder}/llama-box-rpc-server",
        "record": str(record),
        "record_key": key,
        "own_version": own,
        "own_llama_box": str(OWN_LLAMA_BOX),
    }


def install_program(venv: pathlib.Path, version: str, service_source: str) -> pathlib.Path:
    """A virtual environment as pipx makes it, without the packages."""
    site_packages = venv / "lib/python3.11/site-packages"
    facts = install_llama_box(site_packages / "gpustack/third_party/bin", version)
    write(site_packages / f"gpustack-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: gpustack\nVersion: {version}\n")
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    if not (venv / "bin/python").exists():
        (venv / "bin/python").symlink_to("/usr/bin/python3")
    program = venv / "bin/gpustack"
    write(program, f"#!{venv}/bin/python\n" + service_source.replace("@FACTS@", json.dumps(facts)), 0o755)
    return program


def plist_content(program: pathlib.Path, environment: dict[str, str], desktop: bool) -> dict[str, object]:
    """The property list that install.sh or the Desktop package writes."""
    content: dict[str, object] = {
        "Label": "ai.gpustack",
        "ProgramArguments": [str(program), "start"],
        "RunAtLoad": not desktop,
        "KeepAlive": True,
        "EnableTransactions": True,
        "StandardOutPath": "/var/log/gpustack.log",
        "StandardErrorPath": "/var/log/gpustack.log",
    }
    if desktop:
        environment = {"HOME": str(DESKTOP / "root"), **environment}
        content["ProgramArguments"] = [str(program), "start", f"--config-file={DESKTOP}/config.yaml", f"--data-dir={DESKTOP}"]
    if environment:
        content["EnvironmentVariables"] = environment
    return content


def install_launchd(arguments: argparse.Namespace, service_source: str) -> None:
    """A script or Desktop installation on a simulated Mac, loaded and running."""
    desktop = arguments.kind == "desktop"
    environment = {VARIABLE: "1"} if "plist" in arguments.plant else {}
    environment.update(pair.split("=", 1) for pair in arguments.plist_variable)
    if desktop:
        venv = pathlib.Path("/Applications/GPUStack.app/Contents/Resources/venv")
        program = install_program(venv, arguments.version, service_source)
        info = {"CFBundleIdentifier": "ai.gpustack", "CFBundleShortVersionString": arguments.version}
        info_path = pathlib.Path("/Applications/GPUStack.app/Contents/Info.plist")
        info_path.write_bytes(plistlib.dumps(info))
        write(DESKTOP / "config.yaml", "debug: false\n")
        target = DESKTOP / "ai.gpustack.plist"
    else:
        program = install_program(pathlib.Path("/Users/admin/.local/pipx/venvs/gpustack"), arguments.version, service_source)
        target = PLIST
    target.parent.mkdir(parents=True, exist_ok=True)
    fmt = plistlib.FMT_BINARY if arguments.binary_plist else plistlib.FMT_XML
    target.write_bytes(plistlib.dumps(plist_content(program, environment, desktop), fmt=fmt))
    target.chmod(0o644)
    if desktop:
        PLIST.symlink_to(target)
    if "manager" in arguments.plant:
        subprocess.run(["/bin/launchctl", "setenv", VARIABLE, "1"], check=True, timeout=30)
    subprocess.run(["/bin/launchctl", "bootstrap", "system", str(PLIST)], check=True, timeout=30)
    if desktop:
        subprocess.run(["/bin/launchctl", "kickstart", "system/ai.gpustack"], check=True, timeout=30)


def install_systemd(arguments: argparse.Namespace, service_source: str) -> None:
    """What install.sh leaves on Linux, enabled and running."""
    program = install_program(pathlib.Path("/root/.local/pipx/venvs/gpustack"), arguments.version, service_source)
    write(
        UNIT,
        "[Unit]\nDescription=GPUStack Service\n\n[Service]\nEnvironmentFile=-/etc/default/%N\n"
        f"ExecStart={program} start\nLimitNOFILE=65535\nRestart=always\n"
        "StandardOutput=append:/var/log/gpustack.log\nStandardError=append:/var/log/gpustack.log\n\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    if "drop_in" in arguments.plant:
        write(UNIT.with_name("gpustack.service.d") / "tuning.conf", f'[Service]\nEnvironment="KEPT=a b" {VARIABLE}=1 ALSO_KEPT=2\n')
    if "manager" in arguments.plant:
        subprocess.run(["systemctl", "set-environment", f"{VARIABLE}=1"], check=True, timeout=30)
    subprocess.run(["systemctl", "daemon-reload"], check=True, timeout=60)
    subprocess.run(["systemctl", "enable", "--quiet", "--now", "gpustack.service"], check=True, timeout=60)


def is_up() -> bool:
    """Whether the service answers, however, and its RPC server listens."""
    try:
        urllib.request.urlopen("http://127.0.0.1/healthz", timeout=2).close()
    except urllib.error.HTTPError:
        pass
    except OSError:
        return False
    try:
        socket.create_connection(("127.0.0.1", RPC_PORT), timeout=2).close()
    except OSError:
        return False
    return True


def wait_up(limit_seconds: float = 60.0) -> None:
    """Poll until everything runs, so that its start is counted before a test looks."""
    end = time.monotonic() + limit_seconds
    while not is_up():
        if time.monotonic() > end:
            sys.exit("the stand-in for GPUStack does not come up")
        time.sleep(0.1)


def main() -> None:
    """Install, plant, start, wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=["script", "desktop", "systemd"], required=True)
    parser.add_argument("--version", choices=sorted(BUILTIN), default="0.6.2")
    parser.add_argument("--plant", action="append", default=[], choices=["file", "file_export", "plist", "manager", "drop_in"])
    parser.add_argument("--file-text", default="", help="text of /etc/default/gpustack before what --plant adds")
    parser.add_argument("--plist-variable", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--binary-plist", action="store_true")
    parser.add_argument("--be", action="append", default=[], choices=["idle", "sick"], help="without a model; with errors at /healthz")
    arguments = parser.parse_args()
    service_source = pathlib.Path(__file__).with_name("service.py").read_text()
    text = arguments.file_text
    if "file" in arguments.plant:
        text += f"{VARIABLE}=1\n"
    if "file_export" in arguments.plant:
        text += f"export {VARIABLE}=0\n"
    if text:
        write(ENVIRONMENT_FILE, text)
    for word in arguments.be:
        write(WORDS / word, "")
    os.umask(0o022)
    if arguments.kind == "systemd":
        install_systemd(arguments, service_source)
    else:
        install_launchd(arguments, service_source)
    wait_up()


if __name__ == "__main__":
    main()
