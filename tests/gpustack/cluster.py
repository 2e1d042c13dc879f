# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real GPUStack server with real workers on disposable hosts, for programs and by hand: cluster.py VERSION [-- COMMAND...]

The command (by default a shell) runs among the hosts, with GPUSTACK_URL, GPUSTACK_USER and GPUSTACK_PASSWORD in its environment; the
hosts end with it. Nothing here is shared with the collection, so that it can contradict it.
"""

from __future__ import annotations

import argparse
import base64
import concurrent.futures
import dataclasses
import http.client
import json
import os
import pathlib
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request

import package
import yaml
from disposable import kernel
from disposable.state import SessionState
from fleet import HOSTS, Fleet

HERE = pathlib.Path(__file__).resolve().parent
ON_HOST = (HERE / "install_gpustack.py").read_bytes()
PROXY = HERE / "recording_proxy.py"
SERVER = "server"
USER, PASSWORD = "admin", "Secret#12345"
HARDWARE = {"mac": "mac:m3_ultra_512", "linux": "linux:"}
# The machine that runs the playbooks, as hosts see it; the recording proxy listens there.
CONTROLLER, PROXY_PORT = "10.231.0.1", 8081
# An instance's start imports GPUStack again, on a machine that may be busy.
RUNNING_LIMIT_SECONDS = 180.0
POLL_SECONDS = 0.5


class ClusterError(Exception):
    """GPUStack did not do what a test needs."""


class ApiError(ClusterError):
    """An answer that is none of success; status 0: there was no answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


@dataclasses.dataclass(frozen=True)
class Worker:
    """A host with a worker. None: what install_gpustack.py takes for the kind of host."""

    name: str
    kind: str = "mac"
    gpu: str | None = None
    memory_gib: int | None = None
    gpu_memory_gib: int | None = None
    # NAME=VALUE, of the service's environment.
    variables: tuple[str, ...] = ()

    def options(self) -> list[str]:
        """Arguments for install_gpustack.py."""
        given = {"--gpu": self.gpu, "--memory-gib": self.memory_gib, "--gpu-memory-gib": self.gpu_memory_gib}
        found = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        return found + [word for variable in self.variables for word in ("--variable", variable)]


class Network:
    """The hosts' network, from a process that may be outside of it: what is called runs in a thread that has gone inside."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._thread = concurrent.futures.ThreadPoolExecutor(1, initializer=self._enter)

    def _enter(self) -> None:
        facts = SessionState(self._session).read_facts()
        if os.stat("/proc/self/ns/net").st_ino == facts["netns"]:
            return
        door = os.open(f"/proc/{facts['keeper_pid']}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        kernel.setns(door, kernel.CLONE_NEWNET)
        os.close(door)

    def ask(self, request: urllib.request.Request, limit_seconds: float) -> bytes:
        """The content of the answer."""
        return self._thread.submit(_ask, request, limit_seconds).result()


def _ask(request: urllib.request.Request, limit_seconds: float) -> bytes:
    try:
        with urllib.request.urlopen(request, timeout=limit_seconds) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as exc:
        raise ApiError(exc.code, exc.read().decode(errors="replace")) from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ApiError(0, str(exc)) from exc


class Cluster:
    """Server and workers, for as long as the fleet lives. Its hosts: SERVER and those of the workers."""

    def __init__(self, fleet: Fleet, version: str, workers: t.Sequence[Worker], upgrade_to: str = "") -> None:
        """upgrade_to: a version that upgrade() may change to."""
        self.fleet = fleet
        self.workers = workers
        kinds = {SERVER: "linux", **{worker.name: worker.kind for worker in workers}}
        tools = package.make("tools")
        specifications = {}
        for name, kind in kinds.items():
            layers = [tools, package.make(version, kind)] + ([package.make(upgrade_to, kind, "upgrade")] if upgrade_to else [])
            specifications[name] = f"{HARDWARE[kind]}:{','.join(map(str, layers))}"
        inventory = {"gpustack": [worker.name for worker in workers], "gpustack_server": [SERVER]}
        fleet.boot(specifications, json.dumps({group: {"hosts": {name: {} for name in names}} for group, names in inventory.items()}))
        groups = yaml.safe_load((fleet.folder / "reach.yml").read_text())["all"]["children"].values()
        self.addresses = {name: str(host["ansible_host"]) for group in groups for name, host in (group["hosts"] or {}).items()}
        self.url = f"http://{self.addresses[SERVER]}"
        self.network = Network(fleet.session)

    def on_host(self, name: str, *arguments: str) -> t.Any:
        """What an action of install_gpustack.py says on a host."""
        words = " ".join(f"'{word}'" for word in arguments)
        return json.loads(self.fleet.ssh(name, f"python3 - {words}", ON_HOST))

    def install(self) -> None:
        """All at once; workers wait for the server. Returns when the server knows of every worker and of its RPC server."""
        with concurrent.futures.ThreadPoolExecutor() as pool:
            steps = [pool.submit(self.on_host, SERVER, "install", "--role", "server")]
            for worker in self.workers:
                place = ["--server-url", self.url, "--worker-name", worker.name, "--worker-ip", self.addresses[worker.name]]
                steps.append(pool.submit(self.on_host, worker.name, "install", "--role", "worker", *place, *worker.options()))
            for step in steps:
                step.result()

    def upgrade(self, version: str) -> None:
        """The server first, then all workers: other packages and tools, the same settings and data."""
        self.on_host(SERVER, "upgrade", version)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for step in [pool.submit(self.on_host, worker.name, "upgrade", version) for worker in self.workers]:
                step.result()

    def api(self, method: str, path: str, body: t.Any = None, limit_seconds: float = 60.0) -> t.Any:
        """The server's answer to the administrator."""
        credentials = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        answer = self.network.ask(urllib.request.Request(f"{self.url}{path}", data, headers, method=method), limit_seconds)
        return json.loads(answer or b"null")

    def items(self, path: str) -> list[t.Any]:
        """All of a list, page by page."""
        found: list[t.Any] = []
        for page in range(1, 1000):
            answer = self.api("GET", f"{path}?perPage=100&page={page}")
            found += answer["items"]
            if page >= answer["pagination"]["totalPage"]:
                break
        return found

    def instances(self, model: str) -> list[t.Any]:
        """Those of the model of this name."""
        return [one for one in self.items("/v1/model-instances") if one["model_name"] == model]

    def wait_running(self, model: str, replicas: int = 1) -> list[t.Any]:
        """Its instances, once so many run and no other is there."""
        start = time.monotonic()
        while True:
            found = self.instances(model)
            if len(found) == replicas and all(one["state"] == "running" for one in found):
                return found
            if time.monotonic() - start > RUNNING_LIMIT_SECONDS or any(one["state"] == "error" for one in found):
                story = [(one["name"], one["worker_name"], one["state"], one["state_message"]) for one in found]
                raise ClusterError(f"{model} does not run after {time.monotonic() - start:.0f} s: {story}")
            time.sleep(POLL_SECONDS)

    def deploy(self, name: str, file: str, **fields: t.Any) -> list[t.Any]:
        """Create a model of a file in /var/lib/models and wait until it runs."""
        model = {"name": name, "source": "local_path", "local_path": f"/var/lib/models/{file}.gguf", "replicas": 1, "backend": "llama-box"}
        self.api("POST", "/v1/models", {**model, "backend_parameters": [], **fields})
        return self.wait_running(name, fields.get("replicas", 1))

    def remove(self, name: str) -> None:
        """Delete a model and wait until no instance of it is left."""
        for model in self.items("/v1/models"):
            if model["name"] == name:
                self.api("DELETE", f"/v1/models/{model['id']}")
        while self.instances(name):
            time.sleep(POLL_SECONDS)

    def ask_model(self, path: str, body: t.Any, limit_seconds: float = 60.0) -> t.Any:
        """An answer of a model by way of the server, which says 404 or 503 for some seconds after the instance runs."""
        start = time.monotonic()
        while True:
            try:
                return self.api("POST", path, body, limit_seconds)
            except ApiError as exc:
                if exc.status not in (404, 503) or time.monotonic() - start > limit_seconds:
                    raise
            time.sleep(POLL_SECONDS)

    def props(self, instance: t.Mapping[str, t.Any]) -> t.Any:
        """What the instance's llama-box says of itself: version, argv, mmap, mapped, environment."""
        port = instance.get("port") or instance["ports"][0]
        return json.loads(self.network.ask(urllib.request.Request(f"http://{instance['worker_ip']}:{port}/props"), 30.0))

    def engine(self, instance: t.Mapping[str, t.Any]) -> t.Any:
        """The same llama-box in its host's process table: pid, exe, argv, environment."""
        return self.on_host(instance["worker_name"], "engines")[instance["model_name"]]


class Recorder:
    """A recording proxy before the server, at `url`, for the length of a with block."""

    def __init__(self, cluster: Cluster) -> None:
        self.log = cluster.fleet.folder / "calls.jsonl"
        self.url = f"http://{CONTROLLER}:{PROXY_PORT}"
        self._cluster = cluster

    def __enter__(self) -> Recorder:
        command = [sys.executable, str(PROXY), self._cluster.url, str(self.log), "--port", str(PROXY_PORT)]
        self._process = subprocess.Popen([HOSTS, "run", self._cluster.fleet.session, "--", *command])
        start = time.monotonic()
        while time.monotonic() - start < 30.0:
            try:
                self._cluster.network.ask(urllib.request.Request(f"{self.url}/healthz"), 5.0)
                return self
            except ApiError:
                time.sleep(0.1)
        raise ClusterError("the recording proxy does not answer")

    def __exit__(self, *_exception: object) -> None:
        self._process.terminate()
        self._process.wait()

    def mark(self) -> int:
        """A moment to count from."""
        return len(self.log.read_text().splitlines())

    def calls(self, since: int) -> list[dict[str, t.Any]]:
        """Method, path and status of every call after that moment."""
        return [json.loads(line) for line in self.log.read_text().splitlines()[since:]]


def main() -> int:
    """Boot, run the command, clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kind", choices=sorted(HARDWARE), default="mac")
    given, command = sys.argv[1:], ["sh"]
    if "--" in given:
        given, command = given[: given.index("--")], given[given.index("--") + 1 :]
    arguments = parser.parse_args(given)
    with Fleet("cluster") as fleet:
        cluster = Cluster(fleet, arguments.version, [Worker(f"studio-{number + 1}", arguments.kind) for number in range(arguments.workers)])
        cluster.install()
        environment = {**os.environ, "GPUSTACK_URL": cluster.url, "GPUSTACK_USER": USER, "GPUSTACK_PASSWORD": PASSWORD}
        return subprocess.call([HOSTS, "run", fleet.session, "--", *command], env=environment)


if __name__ == "__main__":
    sys.exit(main())
