# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs on a host that has the layers of package.py, by `python3 - ACTION`; prints JSON. See README.md.

install   Set the real GPUStack up as a service as install.sh does and wait until it is up, a worker until its RPC server runs and the
          server knows of it. --role: server and worker in one (both), or one of them.
look      What runs and what lies where. engines: only the llama-boxes that serve models, with what GPUStack handed to them.
wait      The same, once the RPC server runs.
replace   Put another llama-box in the place of the builtin one, by plain operations on files.
record    Write a version of the builtin llama-box into GPUStack's versions.json.
mirror    Serve the builtin llama-box on the port at which GPUStack here downloads its tools, until this process is ended.
restart   Restart the service and wait. kill: end the RPC server and wait for the next one.
upgrade   Let the link lead to another version, of a layer made with `upgrade`, with its own tools, and restart the service.

It shares no code with the collection, so that it can contradict it.
"""

from __future__ import annotations

import argparse
import base64
import glob
import hashlib
import http.server
import io
import json
import os
import pathlib
import plistlib
import re
import shutil
import socket
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
import zipfile

MAC = os.uname().sysname == "Darwin"
HOME = pathlib.Path("/Users/admin" if MAC else "/root")
# pipx's link, which the service starts.
PROGRAM = HOME / ".local/bin/gpustack"
TOOLS = pathlib.Path("/opt/gpustack-tools")
DATA = pathlib.Path("/var/lib/gpustack")
CONFIG = pathlib.Path("/etc/gpustack/config.yaml")
CATALOG = CONFIG.with_name("catalog.yaml")
ENVIRONMENT = pathlib.Path("/etc/default/gpustack")
LOG = pathlib.Path("/var/log/gpustack.log")
PLIST = pathlib.Path("/Library/LaunchDaemons/ai.gpustack.plist")
UNIT = pathlib.Path("/etc/systemd/system/gpustack.service")
# A simulated Mac hides its real process table; this is where tests look at it.
PROCESSES = pathlib.Path("/.sim/proc" if MAC else "/proc")
SERVER_PORT, WORKER_PORT, MIRROR_PORT = 80, 10150, 18999
PORTS = {"both": (SERVER_PORT, WORKER_PORT), "server": (SERVER_PORT,), "worker": (WORKER_PORT,)}
PASSWORD, TOKEN = "Secret#12345", "token-of-the-workers"
# BUILTIN_LLAMA_BOX_VERSION and BUILTIN_GGUF_PARSER_VERSION in gpustack/worker/tools_manager.py.
LLAMA_BOX = {"0.6.0": "v0.0.136", "0.6.2": "v0.0.154", "0.7.1": "v0.0.171"}
GGUF_PARSER = {"0.6.0": "v0.14.1", "0.6.2": "v0.19.0", "0.7.1": "v0.22.1"}
GPUS: dict[str, dict[str, t.Any]] = {
    # 384 GiB: three quarters of the memory of 512.
    "apple": {"name": "Apple M3 Ultra", "vendor": "Apple", "index": 0, "memory": {"total": 384 << 30, "is_unified_memory": True}},
    "nvidia": {"name": "NVIDIA L40S", "vendor": "NVIDIA", "index": 0, "memory": {"total": 48 << 30, "is_unified_memory": False}},
}
UNIT_TEXT = """[Unit]
Description=GPUStack Service
Wants=network-online.target
After=network-online.target

[Service]
EnvironmentFile=-/etc/default/%N
ExecStart=@COMMAND@
LimitNOFILE=65535
Restart=always
StandardOutput=append:/var/log/gpustack.log
StandardError=append:/var/log/gpustack.log

[Install]
WantedBy=multi-user.target
"""
# The first start of all compiles every file of GPUStack, on a machine that may be busy with other tests.
LIMIT_SECONDS = 240.0


def site_packages() -> pathlib.Path:
    """The packages of the virtual environment that the link leads into."""
    return PROGRAM.resolve().parents[1] / "lib/python3.11/site-packages"


def third_party() -> pathlib.Path:
    """Where GPUStack has its tools."""
    return site_packages() / "gpustack/third_party/bin"


def write(path: pathlib.Path, text: str) -> None:
    """Write a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def run(*argv: str) -> str:
    """Standard output of a command that must succeed."""
    return subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout


def version_of_gpustack() -> str:
    """From the name of its dist-info."""
    return next(site_packages().glob("gpustack-*.dist-info")).name[len("gpustack-") : -len(".dist-info")]


def has_folders() -> bool:
    """Whether each llama-box has a folder of its own, as from 0.7 on."""
    return not version_of_gpustack().startswith("0.6.")


def builtin() -> tuple[pathlib.Path, str]:
    """The builtin program, and its key in versions.json."""
    key = "llama-box"
    if has_folders():
        # Without a device, as no accelerator's tools are on these hosts; GPUStack's code sees Darwin on a simulated Mac.
        key += f"-{LLAMA_BOX[version_of_gpustack()]}-{'darwin-arm64-mps' if MAC else 'linux-amd64'}"
        return third_party() / "llama-box" / key / "llama-box", key
    return third_party() / "llama-box/llama-box", key


def install_tools() -> None:
    """The tools as GPUStack itself leaves them after it has downloaded them."""
    version = version_of_gpustack()
    program, key = builtin()
    program.parent.mkdir(parents=True)
    shutil.copy(TOOLS / f"llama-box-{LLAMA_BOX[version]}", program)
    link = program.with_name("llama-box-rpc-server")
    # 0.6.0 makes an absolute link, later ones a relative one.
    link.symlink_to(program if version == "0.6.0" else "llama-box")
    if has_folders():
        (third_party() / "llama-box/llama-box-default").symlink_to(key)
    for name in ("gguf-parser", "fastfetch"):
        (third_party() / name).mkdir()
        shutil.copy(TOOLS / name, third_party() / name / name)
    recorded = {key: LLAMA_BOX[version], "gguf-parser": GGUF_PARSER[version], "fastfetch": "2.25.0.1"}
    write(third_party() / "versions.json", json.dumps(recorded, indent=4))


def settings() -> dict[str, t.Any]:
    """What configure() has written."""
    return dict(json.loads(CONFIG.read_text()))


def role() -> str:
    """both, server or worker."""
    return "worker" if "server_url" in settings() else "server" if "disable_worker" in settings() else "both"


def configure(arguments: argparse.Namespace) -> None:
    """The config.yaml, for a machine that reaches no internet."""
    gpu = arguments.gpu
    memory = arguments.memory_gib or (512 if gpu == "apple" else 64)
    kernel = {"name": "Darwin" if MAC else "Linux", "release": os.uname().release, "version": os.uname().version, "architecture": ""}
    resources: dict[str, t.Any] = {
        "cpu": {"total": 32},
        "memory": {"total": memory << 30, "is_unified_memory": gpu == "apple"},
        "os": {"name": "macOS", "version": "15.5"} if MAC else {"name": "Debian", "version": "12"},
        "kernel": kernel,
    }
    if gpu != "none":
        own = GPUS[gpu]["memory"]
        total = arguments.gpu_memory_gib << 30 if arguments.gpu_memory_gib else own["total"]
        resources["gpu_devices"] = [{**GPUS[gpu], "memory": {**own, "total": total}}]
    server = {
        "bootstrap_password": PASSWORD,
        "disable_update_check": True,
        # GPUStack's own catalog would make it look for the hubs of models.
        "model_catalog_file": str(CATALOG),
    }
    worker = {"tools_download_base_url": f"http://127.0.0.1:{MIRROR_PORT}", "resources": resources}
    content: dict[str, t.Any] = {**server, **worker}
    if arguments.role == "server":
        # Without the last, whoever asks from this host is the administrator.
        content = {**server, "disable_worker": True, "token": TOKEN, "force_auth_localhost": True}
    elif arguments.role == "worker":
        name = {"worker_name": arguments.worker_name, "worker_ip": arguments.worker_ip}
        content = {**worker, **name, "server_url": arguments.server_url, "token": TOKEN}
    # JSON is YAML.
    write(CONFIG, json.dumps(content, indent=2))
    write(CATALOG, "[]\n")
    write(ENVIRONMENT, "".join(f"{line}\n" for line in ["HF_HUB_OFFLINE=1", *arguments.variable]))


def install_service() -> None:
    """As install.sh does: a property list with a copy of /etc/default/gpustack, or a unit that reads it."""
    command = [str(PROGRAM), "start", "--config-file", str(CONFIG)]
    if not MAC:
        write(UNIT, UNIT_TEXT.replace("@COMMAND@", " ".join(command)))
        run("systemctl", "daemon-reload")
        run("systemctl", "enable", "--quiet", "--now", "gpustack.service")
        return
    definition = {
        "Label": "ai.gpustack",
        "ProgramArguments": command,
        "EnvironmentVariables": dict(line.split("=", 1) for line in ENVIRONMENT.read_text().splitlines()),
        "RunAtLoad": True,
        "KeepAlive": True,
        "EnableTransactions": True,
        "StandardOutPath": str(LOG),
        "StandardErrorPath": str(LOG),
    }
    PLIST.parent.mkdir(parents=True, exist_ok=True)
    PLIST.write_bytes(plistlib.dumps(definition))
    run("launchctl", "bootstrap", "system", str(PLIST))


def restart_service() -> None:
    """Restart it, with the definition that is loaded."""
    if MAC:
        run("launchctl", "kickstart", "-k", "system/ai.gpustack")
    else:
        run("systemctl", "restart", "gpustack.service")


def health(port: int) -> t.Union[int, str]:
    """The status code of /healthz, or what went wrong."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError as exc:
        return str(exc)


def ask_rpc_server(port: int) -> t.Optional[str]:
    """What it says to who connects: our stand-in its version, any other nothing (""). None where nothing listens."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(100).decode().strip()
    except OSError:
        return None


def ask_program(program: pathlib.Path) -> str:
    """The version that a program tells when it is run."""
    result = subprocess.run([str(program), "--version"], check=False, capture_output=True, text=True, timeout=30)
    found = re.search(r"^version +: (\S+)", result.stderr, flags=re.MULTILINE)
    return found.group(1) if found else ""


def statistics(folder: pathlib.Path) -> dict[str, t.Any]:
    """Of one process: proc(5). A tick is a hundredth of a second; started is in seconds of the clock."""
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    boot = re.search(r"^btime (\d+)", (PROCESSES / "stat").read_text(), flags=re.MULTILINE)
    return {
        "started": (int(boot.group(1)) if boot else 0) + int(fields[19]) / 100,
        "cpu_seconds": (int(fields[11]) + int(fields[12])) / 100,
        "rss_mib": int(fields[21]) * os.sysconf("SC_PAGE_SIZE") >> 20,
    }


def processes() -> list[dict[str, t.Any]]:
    """Those of GPUStack, with what each has used. Its helpers write titles over their arguments (setproctitle)."""
    found = []
    for folder in sorted(PROCESSES.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            argv = (folder / "cmdline").read_bytes().rstrip(b"\0").decode().split("\0")
            exe = os.readlink(folder / "exe")
            if "gpustack" in " ".join(argv) and int(folder.name) != os.getpid():
                found.append({"pid": int(folder.name), "argv": argv, "exe": exe, **statistics(folder)})
        except (OSError, IndexError):
            # It has ended, or is a thread of the kernel.
            continue
    return found


def program_of(process: dict[str, t.Any]) -> str:
    """The llama-box that a process runs; "" where it is none. A script is the first argument of its interpreter."""
    called = next((word for word in process["argv"][:2] if os.path.basename(word).startswith("llama-box")), "")
    return process["exe"] if called == process["argv"][0] else os.path.realpath(called) if called else ""


def rpc_server(process: dict[str, t.Any]) -> dict[str, t.Any]:
    """A process that offers GPUs: its program, whether that file is still the one that was started, and the version."""
    program = pathlib.Path(program_of(process))
    port = int(process["argv"][process["argv"].index("--rpc-server-port") + 1])
    said = ask_rpc_server(port)
    # A program that was replaced is shown as "… (deleted)". Of a script only times tell; btime is in whole seconds.
    same = program.is_file() and (str(program) == process["exe"] or program.stat().st_ctime < process["started"] + 1)
    version = said or (ask_program(program) if program.is_file() else "")
    facts = {"program": str(program), "is_that_file": same, "port": port, "listens": said is not None, "version": version}
    return {**process, **facts}


def worker() -> dict[str, t.Any]:
    """What GPUStack's server says of the worker of this host; {} where it says nothing."""
    server_url = settings().get("server_url", f"http://127.0.0.1:{SERVER_PORT}")
    credentials = base64.b64encode(f"admin:{PASSWORD}".encode()).decode()
    request = urllib.request.Request(f"{server_url}/v1/workers?perPage=100", headers={"Authorization": f"Basic {credentials}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            items = json.load(answer)["items"]
    except OSError:
        return {}
    own = [item for item in items if item["name"] == settings().get("worker_name", item["name"])]
    return {"state": own[0]["state"], "rpc_servers": (own[0]["status"] or {}).get("rpc_servers")} if own else {}


def digests() -> dict[str, str]:
    """Every file below third_party/bin with its SHA-256, and every link with where it leads."""
    found = {}
    for name in glob.glob(f"{third_party()}/**", recursive=True):
        path = pathlib.Path(name)
        if path.is_symlink():
            found[str(path.relative_to(third_party()))] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(third_party()))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return dict(sorted(found.items()))


def look() -> dict[str, t.Any]:
    """What runs and what lies where."""
    running = processes()
    rpc_servers = [rpc_server(process) for process in running if program_of(process) and "--rpc-server-port" in process["argv"]]
    program, key = builtin()
    recorded = json.loads((third_party() / "versions.json").read_text())
    return {
        "gpustack": version_of_gpustack(),
        "healthz": {str(port): health(port) for port in PORTS[role()]},
        "worker": worker() if role() != "server" else {},
        "rpc_servers": rpc_servers,
        "builtin": {"path": str(program), "version": ask_program(program), "key": key, "recorded": recorded.get(key)},
        "versions_json": {
            "sha256": hashlib.sha256((third_party() / "versions.json").read_bytes()).hexdigest(),
            "mtime_ns": (third_party() / "versions.json").stat().st_mtime_ns,
        },
        "third_party": digests(),
        "processes": [{**process, "argv": " ".join(process["argv"])} for process in running],
        "rss_mib": sum(process["rss_mib"] for process in running),
        "cpu_seconds": round(sum(process["cpu_seconds"] for process in running), 1),
    }


def engines() -> dict[str, t.Any]:
    """By the alias of the model: program, arguments and environment, as the kernel has them."""
    found = {}
    for process in processes():
        if program_of(process) == process["exe"] and "--alias" in process["argv"]:
            pairs = (PROCESSES / str(process["pid"]) / "environ").read_bytes().decode().split("\0")
            environment = dict(pair.split("=", 1) for pair in pairs if pair.startswith(("GGML_", "LLAMA_BOX_", "METALFLEET_")))
            alias = process["argv"][process["argv"].index("--alias") + 1]
            found[alias] = {"pid": process["pid"], "exe": process["exe"], "argv": process["argv"], "environment": environment}
    return found


def is_up(seen: dict[str, t.Any], other_than: t.Collection[int], rpc: bool) -> bool:
    """Whether server and worker answer and RPC servers run that are none of those."""
    if set(seen["healthz"].values()) != {200}:
        return False
    if role() == "server":
        return True
    if seen["worker"].get("state") != "ready" or (rpc and role() == "worker" and not seen["worker"]["rpc_servers"]):
        return False
    pids = {process["pid"] for process in seen["rpc_servers"] if process["listens"]}
    return not rpc or bool(pids - set(other_than))


def wait(other_than: t.Collection[int] = (), rpc: bool = True) -> dict[str, t.Any]:
    """Look until everything is up; seconds: when each part was, from now on."""
    start = time.monotonic()
    seconds: dict[str, float] = {}
    while True:
        seen = look()
        now = round(time.monotonic() - start, 1)
        for port, code in seen["healthz"].items():
            if code == 200:
                seconds.setdefault(f"healthz {port}", now)
        if any(process["listens"] and process["pid"] not in other_than for process in seen["rpc_servers"]):
            seconds.setdefault("rpc server", now)
        if is_up(seen, other_than, rpc):
            return {**seen, "seconds": {**seconds, "all": now}}
        if now > LIMIT_SECONDS:
            tail = "".join(LOG.read_text(errors="replace").splitlines(keepends=True)[-30:])
            sys.exit(f"GPUStack is not up after {now} s: {json.dumps(seen)}\n{tail}")
        time.sleep(0.5)


def rpc_pids() -> set[int]:
    """The processes that offer GPUs at this moment."""
    return {process["pid"] for process in look()["rpc_servers"]}


def restart(rpc: bool) -> dict[str, t.Any]:
    """The service's restart is over when an RPC server runs that did not run before."""
    before = rpc_pids()
    start = time.monotonic()
    restart_service()
    took = round(time.monotonic() - start, 1)
    seen = wait(before, rpc)
    return {**seen, "seconds": {"restart command": took, **seen["seconds"]}}


def upgrade(version: str) -> dict[str, t.Any]:
    """As an upgrade by pipx: other packages, the same service, settings and data."""
    before = rpc_pids()
    PROGRAM.unlink()
    PROGRAM.symlink_to(HOME / f".local/pipx/venvs/gpustack-{version}/bin/gpustack")
    install_tools()
    restart_service()
    return wait(before)


def kill() -> dict[str, t.Any]:
    """End the RPC servers and wait for the next ones."""
    before = rpc_pids()
    for pid in before:
        os.kill(pid, 9)
    return wait(before)


def replace(version: str) -> dict[str, t.Any]:
    """0.6: a new file, renamed over the old one. 0.7: a new folder in the place of the old one, under its name."""
    program, _key = builtin()
    if not has_folders():
        shutil.copy(TOOLS / f"llama-box-{version}", program.with_name("new"))
        program.with_name("new").rename(program)
        return look()
    new = program.parent.with_name("new")
    new.mkdir()
    shutil.copy(TOOLS / f"llama-box-{version}", new / "llama-box")
    (new / "llama-box-rpc-server").symlink_to("llama-box")
    old = program.parent.with_name("old")
    program.parent.rename(old)
    new.rename(program.parent)
    shutil.rmtree(old)
    return look()


def record(version: str) -> dict[str, t.Any]:
    """What nobody should do: GPUStack takes any version but its own for a reason to download its own again."""
    file = third_party() / "versions.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), builtin()[1]: version}, indent=4))
    return look()


def mirror() -> None:
    """GPUStack's builtin llama-box under whatever name it asks for; each path asked for is written to /var/log/mirror.log."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        member = zipfile.ZipInfo("llama-box")
        member.external_attr = 0o100755 << 16
        archive.writestr(member, (TOOLS / f"llama-box-{LLAMA_BOX[version_of_gpustack()]}").read_bytes())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = "/llama-box/releases/download/" in self.path
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content.getvalue()) if found else 0))
            self.end_headers()
            if found:
                self.wfile.write(content.getvalue())

        def log_message(self, *arguments: t.Any) -> None:
            with open("/var/log/mirror.log", "a") as log:
                log.write(f"{self.path}\n")

    http.server.ThreadingHTTPServer(("127.0.0.1", MIRROR_PORT), Handler).serve_forever()


def wait_for_server(server_url: str) -> None:
    """A worker of 0.6.0 that finds no server ends for good."""
    start = time.monotonic()
    while True:
        try:
            with urllib.request.urlopen(f"{server_url}/healthz", timeout=5):
                return
        except OSError as exc:
            if time.monotonic() - start > LIMIT_SECONDS:
                sys.exit(f"no server answers at {server_url}: {exc}")
        time.sleep(0.5)


def install(arguments: argparse.Namespace) -> dict[str, t.Any]:
    """Everything."""
    install_tools()
    configure(arguments)
    if arguments.role == "worker":
        wait_for_server(arguments.server_url)
    install_service()
    return wait(rpc=arguments.gpu != "none")


def main() -> None:
    """Do what is asked for."""
    os.umask(0o022)
    parser = argparse.ArgumentParser(description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for name in ("look", "engines", "wait", "mirror", "kill"):
        actions.add_parser(name)
    for name in ("replace", "record", "upgrade"):
        actions.add_parser(name).add_argument("version")
    for name in ("install", "restart"):
        # A worker without a GPU starts no RPC server.
        actions.add_parser(name).add_argument("--gpu", choices=["apple", "nvidia", "none"], default="apple" if MAC else "nvidia")
    of_install = actions.choices["install"]
    of_install.add_argument("--role", choices=sorted(PORTS), default="both")
    for name in ("--server-url", "--worker-name", "--worker-ip"):
        of_install.add_argument(name)
    for name in ("--memory-gib", "--gpu-memory-gib"):
        of_install.add_argument(name, type=int)
    of_install.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="of the service's environment")
    arguments = parser.parse_args()
    if arguments.action == "mirror":
        mirror()
    elif arguments.action == "install":
        seen = install(arguments)
    elif arguments.action == "restart":
        seen = restart(arguments.gpu != "none")
    elif arguments.action in ("replace", "record", "upgrade"):
        seen = {"replace": replace, "record": record, "upgrade": upgrade}[arguments.action](arguments.version)
    else:
        seen = {"look": look, "engines": engines, "wait": wait, "kill": kill}[arguments.action]()
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
