# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a disposable host: runs modules, kills them where it is told to, looks at the host, and puts it back to a saved state.

It reads requests, one JSON object a line, and answers each with one. Modules are imported once; each run is a fork of this process,
traced from its first instruction on if it is to be killed, or if its points are to be listed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import typing as t

HOME = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HOME, os.path.join(HOME, "tree")]

import looking  # noqa: E402
from calls import CALLS, DURING, MARK, command_of  # noqa: E402

STRACE = [f"{HOME}/lib/ld-linux-x86-64.so.2", "--library-path", f"{HOME}/lib", f"{HOME}/strace"]
MODULES = ("node", "llama_box", "environment", "rollback")
_PACKAGE = "ansible_collections.metalfleet.gpustack.plugins.modules."

Answer = t.Dict[str, t.Any]


def _arm(kill: t.Optional[t.Dict[str, t.Any]]) -> None:
    """Mark each command in the trace, and die before or while that one runs that was named."""
    left = kill["number"] if kill is not None and "command" in kill else 0
    is_running = False

    def hook(event: str, arguments: t.Tuple[t.Any, ...]) -> None:
        nonlocal left, is_running
        if event != "subprocess.Popen":
            return
        words = command_of(arguments[1])
        os.access(MARK + words, 0)
        if kill is None or kill.get("command") != words:
            return
        left -= 1
        if left == 0 and kill["when"] != DURING:
            os.kill(os.getpid(), signal.SIGKILL)
        is_running = left == 0

    communicate = subprocess.Popen.communicate

    def wait(self: t.Any, *arguments: t.Any, **options: t.Any) -> t.Any:
        if is_running:
            # Popen() returns when the command has been started.
            os.kill(os.getpid(), signal.SIGKILL)
        return communicate(self, *arguments, **options)

    subprocess.Popen.communicate = wait  # type: ignore[method-assign]
    sys.addaudithook(hook)


def _module(name: str, arguments: t.Dict[str, t.Any], kill: t.Optional[t.Dict[str, t.Any]]) -> None:
    basic = importlib.import_module("ansible.module_utils.basic")
    setattr(basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode())  # noqa: B010
    setattr(basic, "_ANSIBLE_PROFILE", "legacy")  # noqa: B010
    _arm(kill)
    importlib.import_module(_PACKAGE + name).main()


def _child(request: t.Dict[str, t.Any], output: int, go: int) -> t.NoReturn:
    status = 1
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.setsid()
        os.read(go, 1)
        _module(request["module"], request["arguments"], request.get("kill"))
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
        sys.stdout.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def _traced(pid: int, log: str, kill: t.Optional[t.Dict[str, t.Any]]) -> subprocess.Popen[bytes]:
    """strace without --seccomp-bpf: with it, version 6.1 injects errors, but no signals."""
    command = [*STRACE, "-o", log, "-s", "4096", "-e", f"trace={','.join(CALLS)},openat,close,access", "-p", str(pid)]
    if kill is not None and "call" in kill:
        command += ["-e", f"inject={kill['call']}:signal=KILL:when={kill['number']}"]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if b"attached" not in said:
        raise RuntimeError(f"strace: {said.decode()}")
    return tracer


def run(request: t.Dict[str, t.Any]) -> Answer:
    """One run of a module; kill: where it dies. trace: whether its points are wanted."""
    kill = request.get("kill")
    go_read, go_write = os.pipe()
    with tempfile.TemporaryFile() as output, tempfile.NamedTemporaryFile("r", errors="replace") as log:
        pid = os.fork()
        if pid == 0:
            os.close(go_write)
            _child(request, output.fileno(), go_read)
        os.close(go_read)
        tracer = _traced(pid, log.name, kill) if request.get("trace") or (kill is not None and "call" in kill) else None
        os.close(go_write)
        _pid, status = os.waitpid(pid, 0)
        if tracer is not None:
            tracer.wait(30)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
        trace = log.read()
    killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    result: Answer = {}
    for line in text.splitlines():
        if line.startswith("{"):
            result = json.loads(line)
    return {"killed": killed, "status": status >> 8, "result": result, "text": "" if result else text[-4000:], "trace": trace}


def restore(request: t.Dict[str, t.Any]) -> Answer:
    """Put back files and all that lives in the service manager and in the kernel."""
    looking.put_back(request["name"])
    return {}


def save(request: t.Dict[str, t.Any]) -> Answer:
    """Remember the host as it is now under a name."""
    looking.keep(request["name"])
    return {}


def look(request: t.Dict[str, t.Any]) -> Answer:
    """What the host is like now, without the collection's help. calm: wait until all starts and stops that are under way are over."""
    return looking.look(request.get("calm", False))


def main() -> None:
    """Serve until there are no more requests."""
    actions = {"run": run, "restore": restore, "save": save, "look": look}
    for name in MODULES:
        importlib.import_module(_PACKAGE + name)
    for line in sys.stdin:
        request = json.loads(line)
        start = time.monotonic()
        try:
            answer = actions[request["action"]](request)
        except Exception as exc:
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        answer["seconds"] = round(time.monotonic() - start, 2)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
