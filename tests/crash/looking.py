# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a disposable host is like, and how it is put back. Runs on the host; nothing of the collection is used."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import time
import typing as t
import urllib.error
import urllib.request

IS_MAC = os.path.isdir("/.sim")
VARIABLE = "GGML_METAL_NO_RESIDENCY"
SYSCTLS = ("iogpu.wired_limit_mb", "iogpu.disable_wired_collector")
STATE = "/var/db/metalfleet" if IS_MAC else "/var/lib/metalfleet"
# All that a run may change.
GOVERNED = (
    ("/etc/default", "/Library/LaunchDaemons", "/Users/admin", "/var/lib/gpustack", STATE)
    if IS_MAC
    else ("/etc/default", "/etc/systemd/system", "/root/.local", "/var/lib/gpustack", STATE)
)
SAVED = "/opt/saved"
PROC = "/.sim/proc" if IS_MAC else "/proc"
RPC_STARTS = "/var/log/gpustack-rpc-starts.log"
RPC_PORT = 40064
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
LIMIT_SECONDS = 60.0
# A run counts an RPC server that is older than its settle_seconds, 0.3; ps tells a Mac's ages in whole seconds.
SETTLED_SECONDS = 1.1 if IS_MAC else 0.4


def _command(*argv: str) -> str:
    return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False, timeout=120).stdout


def _describe(path: str) -> t.List[t.Any]:
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        return ["link", status.st_uid, status.st_gid, os.readlink(path)]
    what = hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else "folder"
    return [oct(status.st_mode), status.st_uid, status.st_gid, what]


def _below(folder: str) -> t.Iterator[str]:
    if not os.path.lexists(folder):
        return
    yield folder
    for parent, folders, files in os.walk(folder):
        for name in folders + files:
            yield os.path.join(parent, name)


def files() -> t.Dict[str, t.List[t.Any]]:
    """Path -> mode, owner, group, digest or target, of all that is governed."""
    return {path: _describe(path) for root in GOVERNED if root != STATE for path in _below(root)}


def notes() -> t.Dict[str, t.List[t.Any]]:
    """The collection's own folder: path -> mode and owner, with the digest only of what is a release."""
    found = {}
    for path in _below(STATE):
        # What a run goes on with is remembered once more.
        name = re.sub(r"undo-\d+(/\d+)?", lambda found: "undo-N/K" if found.group(1) else "undo-N", path[len(STATE) :]) or "/"
        described = _describe(path)
        found[name] = described if name.startswith("/llama-box/") else described[:3]
    return found


def _processes() -> t.Iterator[t.Tuple[int, t.List[str]]]:
    for name in os.listdir(PROC):
        if name.isdigit():
            try:
                yield int(name), pathlib.Path(PROC, name, "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue


def service_pid() -> int:
    """The main process of the stand-in for GPUStack; 0 where there is none."""
    return next((pid for pid, words in _processes() if len(words) > 2 and words[1].endswith("/bin/gpustack") and words[2] == "start"), 0)


def _environment(pid: int) -> t.Dict[str, str]:
    try:
        pairs = pathlib.Path(PROC, str(pid), "environ").read_bytes().decode().split("\0")
    except OSError:
        return {}
    found = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    # Others at each start, or only where a simulated Mac is told to show the real system.
    return {name: value for name, value in found.items() if name not in ("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID")}


def _rpc_program() -> str:
    """Digest of the program of the RPC server that runs; "" where none does."""
    try:
        lines = pathlib.Path(RPC_STARTS).read_text().splitlines()
    except OSError:
        return ""
    running = {pid for pid, words in _processes() if "--rpc-server-port" in words}
    for line in reversed(lines):
        pid, digest = line.split()
        # On a simulated Mac a job has the host's own pids.
        if int(pid) in running:
            return digest
    return ""


def _manager() -> str:
    if IS_MAC:
        return _command("launchctl", "getenv", VARIABLE).strip()
    return "\n".join(line for line in _command("systemctl", "show-environment").splitlines() if line.startswith(VARIABLE))


def _sysctls() -> t.Dict[str, str]:
    return {name: _command("sysctl", "-n", name).strip() for name in SYSCTLS} if IS_MAC else {}


def answers() -> bool:
    """Whether GPUStack's stand-in is well and its RPC server listens."""
    try:
        for port in (80, 10150):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2).close()
        socket.create_connection(("127.0.0.1", RPC_PORT), timeout=2).close()
    except (OSError, urllib.error.URLError):
        return False
    return True


def has_settled() -> bool:
    """Whether a run would miss the RPC server if that ended."""
    # It is noted as soon as it was started, which may be after it answers.
    return answers() and os.path.exists(RPC_STARTS) and time.time() - os.stat(RPC_STARTS).st_mtime >= SETTLED_SECONDS


def _until(question: t.Callable[[], bool]) -> bool:
    end = time.monotonic() + LIMIT_SECONDS
    while not question():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _no_commands() -> bool:
    """Whether no command is left that a run which died had started."""
    return not any(words[0].endswith("systemctl") or any(word.endswith("/launchctl") for word in words[:3]) for _pid, words in _processes())


def look(calm: bool) -> t.Dict[str, t.Any]:
    """Files, notes and what lives. calm: after all commands that a dead run had started have ended."""
    if calm and not _until(_no_commands):
        raise RuntimeError("a command does not end")
    pid = service_pid()
    live = {
        "running": pid != 0,
        "environment": _environment(pid) if pid else {},
        "program": _rpc_program(),
        "manager": _manager(),
        "sysctls": _sysctls(),
    }
    journal = pathlib.Path(STATE, "journal.json")
    found = {"files": files(), "notes": notes(), "live": live, "pid": pid, "answers": answers()}
    records = json.loads(journal.read_text())["records"] if journal.exists() else []
    return {**found, "state": STATE, "journal": journal.exists(), "records": [_kind(record) for record in records]}


def _kind(record: t.Mapping[str, t.Any]) -> str:
    """What a record of the journal is of. A note says that the command before it was given; nothing else on the host does."""
    return "note" if "undone" in record else "path" if "path" in record else "command"


def keep(name: str) -> None:
    """Remember files, the manager's variable and the sysctls."""
    target = os.path.join(SAVED, name)
    shutil.rmtree(target, ignore_errors=True)
    os.makedirs(target)
    present = [path for path in GOVERNED if os.path.lexists(path)]
    # One command, so that what are two names of one file here are so there.
    subprocess.run(["cp", "-a", "--parents", *present, target], check=True, timeout=60)
    pathlib.Path(target, ".live").write_text(json.dumps({"manager": _manager(), "sysctls": _sysctls()}))


def put_back(name: str) -> None:
    """Bring the host to what was remembered, with the service started anew. Raises RuntimeError where it does not come up."""
    source = os.path.join(SAVED, name)
    _until(_no_commands)
    if IS_MAC:
        _command("launchctl", "bootout", "system/ai.gpustack")
        if not _until(lambda: service_pid() == 0 and "could not find" in _print_job().lower()):
            raise RuntimeError("the service does not end")
    else:
        _command("systemctl", "stop", "gpustack")
    for path in GOVERNED:
        if os.path.lexists(path):
            shutil.rmtree(path)
    below = [os.path.join(".", path[1:]) for path in GOVERNED if os.path.lexists(source + path)]
    subprocess.run(["cp", "-a", "--parents", *below, "/"], check=True, timeout=60, cwd=source)
    live = json.loads(pathlib.Path(source, ".live").read_text())
    for log in (RPC_STARTS,):
        pathlib.Path(log).unlink(missing_ok=True)
    if IS_MAC:
        _command("launchctl", *(("setenv", VARIABLE, live["manager"]) if live["manager"] else ("unsetenv", VARIABLE)))
        for sysctl, value in live["sysctls"].items():
            if value:
                _command("sysctl", f"{sysctl}={value}")
        _command("launchctl", "bootstrap", "system", PLIST)
    else:
        _command("systemctl", "set-environment" if live["manager"] else "unset-environment", live["manager"] or VARIABLE)
        _command("systemctl", "daemon-reload")
        _command("systemctl", "reset-failed", "gpustack")
        _command("systemctl", "start", "gpustack")
    if not _until(has_settled):
        raise RuntimeError(f"the service does not come up after {name} was put back")


def _print_job() -> str:
    done = subprocess.run(
        ["launchctl", "print", "system/ai.gpustack"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout if done.returncode else ""
