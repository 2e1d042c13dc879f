# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make a layer for disposable hosts that holds the real GPUStack from PyPI, and print its folder: package.py VERSION [mac|linux]

The layer has what `pipx install gpustack` leaves in the home of the user admin of a Mac, or of root on Linux. Its packages are
those for the Python 3.11 of the hosts' Debian, whatever Python runs this program. With a third argument, `upgrade`, it lies beside
another version, in a virtual environment that has the version in its name, and nothing leads to it yet (install_gpustack.py upgrade).
`package.py tools` makes and prints the layer with our stand-ins for the programs that GPUStack downloads, which install_gpustack.py
puts in their places, and with models that they serve.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
CACHE = HERE.parents[1] / ".cache" / "gpustack"
VENVS = {
    "mac": pathlib.PurePosixPath("/Users/admin/.local/pipx/venvs/gpustack"),
    "linux": pathlib.PurePosixPath("/root/.local/pipx/venvs/gpustack"),
}
SITE_PACKAGES = "lib/python3.11/site-packages"
# The guard matters: GPUStack starts its parts with multiprocessing's spawn, which runs this file again.
PROGRAM = """#!@VENV@/bin/python
import sys
from gpustack.main import main
if __name__ == "__main__":
    sys.exit(main())
"""
CONFIGURATION = "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"
DARWIN = HERE / "gpustack_sees_darwin.py"
TOOLS = HERE / "tools"
# Those that GPUStack 0.6.0, 0.6.2 and 0.7.1 bring by themselves, and two to pin: one from before and one from after 0.0.156.
LLAMA_BOX_VERSIONS = ("v0.0.136", "v0.0.139", "v0.0.154", "v0.0.168", "v0.0.171")
# A prebuilt llama.cpp for the Python 3.11 of the hosts.
ENGINE = "xllamacpp==2026.10.11549"
IMPORTED = "import gpustack.main, gpustack.server.server, gpustack.worker.worker"
FOR_HOSTS = ("--python-version", "3.11", "--implementation", "cp", "--only-binary=:all:")


def download(*what: str) -> pathlib.Path:
    """Packages of PyPI, the first of them with its version. Hosts never write in them, as they are below overlays; so layers share
    them by hard links.
    """
    packages = CACHE / "packages" / what[0]
    if packages.is_dir():
        return packages
    print(f"installing {what[0]} from PyPI, about a minute", file=sys.stderr)
    unfinished = _unfinished(packages)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-conflicts", "--no-compile"]
    subprocess.run([*command, "--target", str(unfinished), *FOR_HOSTS, *what], check=True, stdout=sys.stderr)
    shutil.rmtree(unfinished / "bin", ignore_errors=True)
    if what[0].startswith("gpustack=="):
        _compile(unfinished)
    unfinished.rename(packages)
    return packages


def _compile(packages: pathlib.Path) -> None:
    """What GPUStack imports, by the Python of the hosts' Debian, which runs anywhere with its own loader.

    pipx, too, compiles what it installs; otherwise every new host would spend some seconds of processor time on it.
    """
    image = subprocess.run([str(HERE.parent / "hosts/hosts"), "image"], check=True, text=True, stdout=subprocess.PIPE).stdout
    base = image.splitlines()[0]
    libraries = f"{base}/lib/x86_64-linux-gnu:{base}/usr/lib/x86_64-linux-gnu"
    command = [f"{base}/lib64/ld-linux-x86-64.so.2", "--library-path", libraries, f"{base}/usr/bin/python3.11", "-c", IMPORTED]
    subprocess.run(command, check=True, stdout=sys.stderr, env={"PYTHONHOME": f"{base}/usr", "PYTHONPATH": str(packages)})


def gpustack(version: str, kind: str, beside: bool) -> pathlib.Path:
    """The layer of a version for a kind of host. beside: for an upgrade."""
    layer = CACHE / f"{kind}-{version}{'-upgrade' if beside else ''}-{_digest(pathlib.Path(__file__), DARWIN)}"
    if layer.is_dir():
        return layer
    # GPUStack imports cachetools without declaring it.
    packages = download(f"gpustack=={version}", "cachetools")
    unfinished = _unfinished(layer)
    place = VENVS[kind].with_name(f"gpustack-{version}") if beside else VENVS[kind]
    venv = unfinished / place.relative_to("/")
    (venv / SITE_PACKAGES).parent.mkdir(parents=True)
    subprocess.run(["cp", "-al", str(packages), str(venv / SITE_PACKAGES)], check=True)
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to("/usr/bin/python3")
    (venv / "pyvenv.cfg").write_text(CONFIGURATION)
    (venv / "bin/gpustack").write_text(PROGRAM.replace("@VENV@", str(place)))
    (venv / "bin/gpustack").chmod(0o755)
    if not beside:
        # What `which gpustack` finds, and install.sh puts in the service, is pipx's link.
        links = venv.parents[2] / "bin"
        links.mkdir()
        (links / "gpustack").symlink_to(place / "bin/gpustack")
    if kind == "mac":
        shutil.copy(DARWIN, venv / SITE_PACKAGES)
        (venv / SITE_PACKAGES / f"{DARWIN.stem}.pth").write_text(f"import {DARWIN.stem}\n")
    unfinished.rename(layer)
    return layer


def tools() -> pathlib.Path:
    """The layer of our stand-ins, in /opt/gpustack-tools, and of the models that they serve, in /var/lib/models."""
    layer = CACHE / f"tools-{_digest(pathlib.Path(__file__), *(path for path in TOOLS.iterdir() if path.is_file()))}"
    if layer.is_dir():
        return layer
    unfinished = _unfinished(layer)
    folder = unfinished / "opt/gpustack-tools"
    folder.mkdir(parents=True)
    for name in ("gguf-parser", "fastfetch", "serve_model.py"):
        shutil.copy(TOOLS / name, folder)
        (folder / name).chmod(0o755)
    subprocess.run(["cp", "-al", str(download(ENGINE)), str(folder / "xllamacpp")], check=True)
    models = unfinished / "var/lib/models"
    models.mkdir(parents=True)
    subprocess.run([sys.executable, str(TOOLS / "tiny_models.py"), str(models)], check=True)
    for version in LLAMA_BOX_VERSIONS:
        # Static: this machine's C library may be newer than that of the hosts.
        command = ["cc", "-static", "-O2", "-Wall", "-Werror", f'-DVERSION="{version}"', "-o", str(folder / f"llama-box-{version}")]
        subprocess.run([*command, str(TOOLS / "llama_box.c")], check=True, stdout=sys.stderr)
    unfinished.rename(layer)
    return layer


def _unfinished(folder: pathlib.Path) -> pathlib.Path:
    """A folder beside the real one, to be renamed: what was cut short is never taken for finished."""
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    return unfinished


def _digest(*sources: pathlib.Path) -> str:
    return hashlib.sha256(b"".join(source.read_bytes() for source in sorted(sources))).hexdigest()[:12]


def make(what: str, kind: str = "mac", how: str = "") -> pathlib.Path:
    """The layer of a version of GPUStack, or "tools"; one at a time on this machine. how: "upgrade" or nothing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return tools() if what == "tools" else gpustack(what, kind, how == "upgrade")


if __name__ == "__main__":
    os.write(1, f"{make(*sys.argv[1:])}\n".encode())
