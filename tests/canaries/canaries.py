# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make canaries`: plant secrets in every input, run everything, and look for them in everything that was written.

    canaries.py [--some]

README.md says how. --some leaves out the runs that take long and find the least.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import re
import subprocess
import sys
import time
import typing as t

import archives
import plays
from canary import Aviary
from complete import find_missing
from disposable.state import SessionState
from fleet import HOSTS, ROOT, Fleet
from places import ALLOWED, Place
from watch import HERE, Piece, Watch

NODES = ("mac", "linux")
CONTROL = "control"
# Values that are written otherwise in JSON, in Python, in a URL, in a shell and in a property list.
AWKWARD = "\\\"' &<>%\nü"
# What the readers of the environment file bear (docs/environment.md).
QUOTED = ' "$x'
START_LIMIT_SECONDS = 30.0
# The forms of leak that the leaking play has, each of which has to be found.
CONTROLS = {
    "standard output": r"controller:file:out/leak\.stdout",
    "Ansible's log": r"controller:file:out/ansible\.log",
    "results": r"controller:file:out/results\.jsonl",
    "fact cache": r"controller:file:out/facts/.*",
    "arguments on a node": r"(mac|linux):argv:echo .*",
    "environment on a node": r"(mac|linux):environ:echo .*",
    "arguments on the controller": r"controller:argv:sh -c .*",
    "file that is gone, in base64": r"(mac|linux):file:/var/tmp/leak",
    "file": r"(mac|linux):file:/tmp/left",
    "journal": r"linux:journal",
}


class CanaryError(Exception):
    """The test cannot say anything; the message says why."""


class Test:
    """One fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.aviary = Aviary()
        self.inputs, self.outputs = fleet.folder / "inputs", fleet.folder / "outputs"
        self.values = self._canaries()
        self.problems: list[str] = []

    def _canaries(self) -> dict[str, str]:
        plain = (
            *("file_plain", "file_export", "file_quoted", "file_single", "file_comment", "plist", "argument", "unit", "drop_in", "config"),
            *("manager", "residency", "become", "vault", "url_password", "url_wrong", "url_token", "url_userinfo", "url_slash"),
            *("password_wrong", "password_in_url", "api_key_wrong", "text", CONTROL),
        )
        made = {name: self.aviary.add(name).value for name in plain}
        made["secret"] = self.aviary.add("secret", QUOTED).value
        for name in ("secret_refused", "misspelled", "model_env", "model_env_other", "foreign"):
            made[name] = self.aviary.add(name, AWKWARD).value
        made["password"] = self.aviary.add("password", "\\\"' &%").value
        # What the server's own look like, of which the redactor knows the shape, and of which it does not.
        made["api_key"] = self.aviary.add("api_key").value
        made["key_in_environment"] = self.aviary.add("key_in_environment").value
        made["text_as_json"] = json.dumps({"HF_TOKEN": made["text"]})
        made["text_of_no_kind"] = f"HF_TOKEN: {made['text']}, and no dictionary"
        return made

    # Preparation.

    def prepare(self) -> None:
        """Hosts with the stand-in for GPUStack, a mirror's archives, inventory, vault, and the canaries in their places."""
        self.inputs.mkdir()
        self.outputs.mkdir()
        releases = {}
        for build in plays.BUILDS:
            archives.place(self.fleet.folder / "mirror", plays.RELEASE, build)
            releases[build] = archives.release_data(self.fleet.folder / "mirror", plays.MIRROR, plays.RELEASE, build)
        lock = {"format": 1, "releases": {plays.RELEASE: releases}}
        (self.inputs / "lock.json").write_text(json.dumps({"lock": lock}))
        hosts = {name: {"ansible_user": "fleet", "ansible_become_password": plays.secret("become")} for name in NODES}
        inventory = {"gpustack": {"hosts": hosts, "vars": self._variables()}}
        self.fleet.boot({"mac": "mac:m3_ultra_512", "linux": "linux"}, json.dumps(inventory))
        self.fleet.install_stand_in("mac", "--kind", "script")
        self.fleet.install_stand_in("linux", "--kind", "systemd")
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", "-stdin"], input=self.values["become"], check=True, text=True, stdout=subprocess.PIPE
        )
        for name in NODES:
            self.on_host(name, "plant", self.values)
            self.on_host(name, "user", {"hash": hashed.stdout.strip()})
        (self.inputs / "vault").write_text(self.values["vault"])
        (self.inputs / "secrets.yml").write_text(json.dumps({"canary": self.values}))
        command = ["ansible-vault", "encrypt", "--vault-password-file", str(self.inputs / "vault"), str(self.inputs / "secrets.yml")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        given = {"password": self.values["password"], "api_key": self.values["api_key"], "foreign": self.values["foreign"]}
        (self.inputs / "server.json").write_text(json.dumps(given))
        (self.inputs / "modules.yml").write_text(json.dumps(plays.modules_play()))
        (self.inputs / "leak.yml").write_text(json.dumps(plays.leaking_play()))
        self._mount_outputs()

    def _variables(self) -> dict[str, t.Any]:
        return {
            "gpustack_node_environment": {"HF_ENDPOINT": "https://hub.example.com"},
            "gpustack_node_secrets": {"HF_TOKEN": plays.secret("secret")},
            "gpustack_node_environment_mode": "0600",
            "gpustack_node_llama_box_version": plays.RELEASE,
            "gpustack_node_llama_box_base_url": plays.MIRROR,
            "gpustack_node_llama_box_lock": str(self.outputs / "out/llama_box.lock.yml"),
            "gpustack_models_llama_box_lock": str(self.outputs / "out/llama_box.lock.yml"),
            "gpustack_node_llama_box_url_username": plays.USER,
            "gpustack_node_llama_box_url_password": plays.secret("url_password"),
            "gpustack_node_llama_box_retries": 0,
            "gpustack_node_wired_limit_state": "present",
            "gpustack_node_settle_seconds": 0,
            "gpustack_node_health_timeout_seconds": 20,
            "gpustack_server_username": "admin",
            "gpustack_server_password": plays.secret("password"),
            "gpustack_server_retries": 0,
            "gpustack_models_list": [
                {"name": "new", "source": "local_path", "local_path": "/models/new.gguf", "secret_env": {"A": plays.secret("model_env")}}
            ],
            "gpustack_models_wait_timeout_seconds": 60,
        }

    def _mount_outputs(self) -> None:
        """A file system of its own, so that its watch sees nothing else."""
        keeper = str(SessionState(self.fleet.session).read_facts()["keeper_pid"])
        subprocess.run(["nsenter", "--target", keeper, "--mount", "--", "mount", "-t", "tmpfs", "none", str(self.outputs)], check=True)
        folders = [str(self.outputs / name) for name in ("out", "tmp", "home", "facts", "retry", "junit")]
        self.inside(["mkdir", *folders])

    def inside(self, command: t.Sequence[str], **options: t.Any) -> subprocess.CompletedProcess[bytes]:
        """Run a command among the hosts."""
        return subprocess.run([HOSTS, "run", self.fleet.session, "--", *command], check=True, **options)

    def on_host(self, name: str, action: str, given: t.Mapping[str, str] | None = None) -> str:
        """Run on_host.py there. What it is given is on its standard input alone."""
        program = (HERE / "on_host.py").read_text().replace("@GIVEN@", json.dumps(given or {}).encode().hex())
        return self.fleet.ssh(name, f"python3 - {action}", program.encode())

    def serve(self) -> list[subprocess.Popen[t.Any]]:
        """The mirror, which wants a password, and GPUStack's API."""
        mirror = [sys.executable, str(ROOT / "tests/mirror/mirror.py"), str(self.fleet.folder / "mirror"), "--host", "0.0.0.0"]
        # Of the mirror no command line is looked at: it is a part of the test.
        mirror += ["--port", str(plays.MIRROR_PORT), "--user", f"{plays.USER}:{self.values['url_password']}"]
        started: list[subprocess.Popen[t.Any]] = [
            subprocess.Popen([HOSTS, "run", self.fleet.session, "--", *mirror], stdout=subprocess.DEVNULL)
        ]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}/.cache/collections"}
        server = [HOSTS, "run", self.fleet.session, "--", sys.executable, str(HERE / "server.py"), str(self.inputs / "server.json")]
        api = subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        assert api.stdout is not None
        started.append(api)
        (self.inputs / "server.yml").write_text(json.dumps({"gpustack_server_url": api.stdout.readline().strip()}))
        return started

    # Runs.

    def play(self, name: str, playbook: str, *arguments: str, pipelining: bool = True, fails: bool = False, **variables: t.Any) -> None:
        """One run, with everything on that writes. fails: it has to."""
        # Not -e: what is on the command line is in the process list by the wish of who typed it.
        more = self.inputs / f"run_{name}.json"
        more.write_text(json.dumps({"llama_box_lock_file": str(self.outputs / "out/llama_box.lock.yml"), **variables}))
        files = [f"@{self.inputs / file}" for file in ("secrets.yml", "lock.json", "server.yml", more.name)]
        extra = [word for file in files for word in ("-e", file)]
        extra += ["--vault-password-file", str(self.inputs / "vault"), "--diff", "-vvvv"]
        command = self.fleet.playbook_command(playbook, *extra, *arguments)
        start = time.monotonic()
        result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=self._environment(pipelining))
        self.inside(["tee", str(self.outputs / f"out/{name}.stdout")], input=result.stdout, stdout=subprocess.DEVNULL)
        print(f"{name:24} ended with {result.returncode} after {time.monotonic() - start:5.1f} s", flush=True)
        if (result.returncode != 0) is not fails:
            text = re.sub(r"zCanary", "(a canary)", result.stdout.decode("utf-8", "replace"))
            raise CanaryError(f"{name} ended with {result.returncode}:\n{text[-6000:]}")

    def _environment(self, pipelining: bool) -> dict[str, str]:
        out = self.outputs / "out"
        own = {
            "HOME": str(self.outputs / "home"),
            "TMPDIR": str(self.outputs / "tmp"),
            "ANSIBLE_HOME": str(self.outputs / "home/.ansible"),
            "ANSIBLE_LOCAL_TEMP": str(self.outputs / "tmp"),
            "ANSIBLE_LOG_PATH": str(out / "ansible.log"),
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": str(out / "facts"),
            "ANSIBLE_RETRY_FILES_ENABLED": "true",
            "ANSIBLE_RETRY_FILES_SAVE_PATH": str(out / "retry"),
            "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callback_plugins"),
            "ANSIBLE_CALLBACKS_ENABLED": "canary_results,ansible.builtin.junit",
            "JUNIT_OUTPUT_DIR": str(out / "junit"),
            "CANARY_RESULTS": str(out / "results.jsonl"),
            "ANSIBLE_DISPLAY_ARGS_TO_STDOUT": "true",
            "ANSIBLE_PIPELINING": str(pipelining).lower(),
            "GPUSTACK_API_KEY": self.values["key_in_environment"],
        }
        return {**os.environ, **own}

    def run_all(self, some: bool) -> None:
        """Each playbook, each role by `site`, each module as a task; each in check mode and for real."""
        self.play("leak", str(self.inputs / "leak.yml"))
        mirror: dict[str, t.Any] = {
            "llama_box_versions": [plays.RELEASE],
            "llama_box_platforms": list(plays.BUILDS),
            "llama_box_base_url": plays.MIRROR,
            "llama_box_url_username": plays.USER,
        }
        self.play("lock", "metalfleet.gpustack.lock", **mirror, llama_box_url_password=plays.secret("url_password"))
        self.play("site_check", "metalfleet.gpustack.site", "--check")
        self.play("site", "metalfleet.gpustack.site")
        self.problems += self.modes()
        self.play("rollback", "metalfleet.gpustack.rollback")
        self.play("modules", str(self.inputs / "modules.yml"))
        if some:
            return
        self.play("modules_check", str(self.inputs / "modules.yml"), "--check")
        self.play("lock_check", "metalfleet.gpustack.lock", "--check", **mirror, llama_box_url_password=plays.secret("url_password"))
        self.play(
            "lock_refused",
            "metalfleet.gpustack.lock",
            fails=True,
            **mirror,
            llama_box_verify=True,
            llama_box_url_password=plays.secret("url_wrong"),
        )
        self.play("site_again", "metalfleet.gpustack.site")
        self.play("rollback_check", "metalfleet.gpustack.rollback", "--check")
        self.play("rollback_of_modules", "metalfleet.gpustack.rollback")
        self.play("without_pipelining", "metalfleet.gpustack.site", pipelining=False, gpustack_node_receipt_max_age_hours=0)
        self.play("modules_by_files", str(self.inputs / "modules.yml"), pipelining=False)
        self.play("unreachable", "metalfleet.gpustack.site", fails=True, gpustack_server_url=plays.NOWHERE)
        self.play("wrong_password", "metalfleet.gpustack.site", fails=True, gpustack_server_password=plays.secret("password_wrong"))
        self.play("wrong_value", "metalfleet.gpustack.site", fails=True, gpustack_node_secrets={"HF_TOKEN": plays.secret("secret_refused")})
        self.play("wrong_type", "metalfleet.gpustack.site", fails=True, gpustack_node_secrets=plays.secret("text_of_no_kind"))
        self.play("wrong_become", "metalfleet.gpustack.site", fails=True, ansible_become_password=plays.secret("url_wrong"))
        self._break_services()
        self.play("failing_restart", "metalfleet.gpustack.site", fails=True, gpustack_node_secrets={"OTHER_TOKEN": plays.secret("secret")})

    def _break_services(self) -> None:
        """They run, and will not start again."""
        for name in NODES:
            self.fleet.ssh(name, "for p in /root /Users/admin; do f=$p/.local/pipx/venvs/gpustack/bin/gpustack; if [ -f $f ]; then "
                           "printf '#!/bin/sh\\nexit 1\\n' > $f; fi; done")  # fmt: skip

    # What was found.

    def require_complete(self, some: bool) -> None:
        """Nothing of the collection was left out."""
        text = self.inside(["cat", str(self.outputs / "out/results.jsonl")], stdout=subprocess.PIPE).stdout.decode()
        results = [json.loads(line) for line in text.splitlines()]
        listed = self.inside(["ls", str(self.outputs / "out")], stdout=subprocess.PIPE).stdout.decode().split()
        missing = find_missing(ROOT, results, [name.removesuffix(".stdout") for name in listed], some)
        if missing:
            raise CanaryError("; ".join(missing))

    def judge(self, pieces: t.Iterable[Piece], some: bool) -> list[str]:
        """The leaks, one a line; and what is wrong with this test."""
        leaks: dict[str, int] = collections.Counter()
        controls, used = set(), set()
        programs: dict[str, set[str]] = collections.defaultdict(set)
        for piece in pieces:
            label, what, rest = (*piece.where.split(":", 2), "")[:3]
            if what == "argv":
                programs[label].add(rest.split(" ")[0])
            for who, form in self.aviary.find(piece.data):
                if who == CONTROL:
                    controls |= {name for name, where in CONTROLS.items() if re.fullmatch(where, piece.where)}
                    continue
                allowed: list[Place] = [
                    place for place in ALLOWED if form != "sha256" and place.allows(piece.where, who, piece.open_to_others)
                ]
                used |= {place.where for place in allowed}
                if not allowed:
                    leaks[f"{who} ({form}) in {re.sub(r'zCanary[a-zA-Z0-9]*', '(a canary)', piece.where)}"] += 1
        problems = [f"leak: {text}, {count} times" for text, count in sorted(leaks.items())]
        problems += [f"a leak was not found: {name}" for name in sorted(set(CONTROLS) - controls)]
        for label, wanted in (("controller", "ssh"), ("mac", "launchctl"), ("linux", "systemctl"), ("mac", "sudo"), ("linux", "sudo")):
            if not any(wanted in program for program in programs[label]) and not (wanted in ("launchctl",) and programs[label]):
                problems.append(
                    f"no {wanted} was seen to be started on {label}, so its programs are not watched: {sorted(programs[label])}"
                )
        if not some:
            problems += [f"no use for the place {place.where}" for place in ALLOWED if place.where not in used]
        return problems

    def modes(self) -> list[str]:
        """What is wrong with the modes of what the collection keeps on the nodes."""
        problems = []
        for name in NODES:
            for path, (mode, uid) in json.loads(self.on_host(name, "state")).items():
                top = re.fullmatch(r"/var/(db|lib)/metalfleet", path)
                wanted = 0o700 if top else 0o600
                below_closed = not top and (re.search(r"/undo-\d+(/|$)|/llama-box(/|\.json$|$)", path) is not None)
                if uid != 0 or (mode != wanted and not below_closed):
                    problems.append(f"{name}: {path} has the mode {mode:04o} and the owner {uid}, and not {wanted:04o} and root")
        return problems


def main() -> int:
    """Plant, run, search."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--some", action="store_true")
    some = parser.parse_args().some
    with Fleet("canaries") as fleet:
        test = Test(fleet)
        test.prepare()
        servers = test.serve()
        try:
            with Watch(fleet, NODES, test.outputs) as watch:
                test.run_all(some)
                test.require_complete(some)
            problems = test.problems
            journals = [Piece(f"{name}:journal", test.on_host(name, "dump").encode()) for name in NODES]
            pieces = [*watch.executed(), *watch.written(), *watch.left(), *journals]
            problems += test.judge(pieces, some)
        except CanaryError as exc:
            print(exc, file=sys.stderr)
            return 1
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    print("\n".join(problems))
    print(f"{len(pieces)} pieces of what was written were searched for {len(test.aviary.names())} canaries; {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
