# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""A session of real booted hosts for all tests of this folder."""

from __future__ import annotations

import json
import os
import pathlib
import plistlib
import subprocess
import time
import typing as t

import pytest

TOOL = pathlib.Path(__file__).resolve().parent.parent / "hosts"
CHECKOUT = TOOL.parent.parent.parent
LIMIT_SECONDS = 180.0
PROFILES = sorted(path.stem for path in (TOOL.parent / "profiles").glob("*.json"))
DAEMONS = "/Library/LaunchDaemons"

Run = subprocess.CompletedProcess


def hosts(*words: str, check: bool = True, given: t.Optional[str] = None) -> Run[str]:
    done = subprocess.run([str(TOOL), *words], input=given, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def until(question: t.Callable[[], t.Any], limit_seconds: float = 10.0) -> t.Any:
    """The first true answer; the last one when the time is over."""
    deadline = time.monotonic() + limit_seconds
    while True:
        answer = question()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.05)


class Host:
    """One booted host, by ssh: the shared connection is opened by the tool, inside the session, and then used from here."""

    def __init__(self, session: str, name: str) -> None:
        self.session, self.name = session, name
        inventory = json.loads(hosts("inventory", session).stdout)["all"]
        known = {**inventory["children"]["macs"]["hosts"], **inventory["children"]["linux"]["hosts"]}
        self.address: str = known[name]["ansible_host"]
        self._control: str = inventory["vars"]["ansible_control_path"].replace("%%r@%%h", "{user}@" + self.address)

    def sh(self, script: str, user: str = "root", check: bool = False, given: t.Optional[str] = None) -> Run[str]:
        control = self._control.format(user=user)
        if not os.path.exists(control):
            hosts("ssh", self.session, "--user", user, self.name, "--", "true", check=False)
        command = ["ssh", "-F", "none", "-S", control, "-o", "ProxyCommand=false", "-o", "LogLevel=ERROR", f"{user}@{self.address}", script]
        stdin = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False, **stdin)
        assert not check or done.returncode == 0, f"{self.name}: {script}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def out(self, script: str, user: str = "root") -> str:
        return self.sh(script, user, check=True).stdout

    def put(self, path: str, content: str, mode: str = "644") -> None:
        self.sh(f"cat > '{path}' && chmod {mode} '{path}'", check=True, given=content)

    def lines(self, name: str) -> t.List[t.Dict[str, t.Any]]:
        return [json.loads(line) for line in self.out(f"cat /.sim/{name}").splitlines()]


class Job:
    """A plist on a simulated Mac, and what launchd did with it."""

    def __init__(self, mac: Host, label: str) -> None:
        self.mac, self.label, self.path = mac, label, f"{DAEMONS}/{label}.plist"

    def write(self, script: str = "exec sleep 1000", **keys: t.Any) -> None:
        content = {"Label": self.label, "ProgramArguments": ["/bin/sh", "-c", script], "RunAtLoad": True, **keys}
        self.mac.put(self.path, plistlib.dumps(content).decode())

    def bootstrap(self, user: str = "root") -> Run[str]:
        return self.mac.sh(f"launchctl bootstrap system {self.path}", user)

    def bootout(self) -> Run[str]:
        return self.mac.sh(f"launchctl bootout system/{self.label}")

    def print(self) -> Run[str]:
        return self.mac.sh(f"launchctl print system/{self.label}")

    def events(self, kind: str) -> t.List[t.Dict[str, t.Any]]:
        return [event for event in self.mac.lines("events.jsonl") if event["label"] == self.label and event["event"] == kind]

    def shown(self, key: str) -> t.Optional[str]:
        """A top-level key of `launchctl print`: exactly one tab before it."""
        for line in self.print().stdout.splitlines():
            if line.startswith(f"\t{key} = "):
                return line.partition(" = ")[2]
        return None

    def gone(self) -> bool:
        return self.print().returncode == 113


@pytest.fixture(scope="session")
def session() -> t.Iterator[str]:
    assert os.geteuid() == 0, "these tests boot hosts from kernel namespaces: run them as root"
    name = f"pytest-{os.getpid()}"
    hosts("start", name, "--owner-pid", str(os.getpid()))
    macs = [f"{profile.replace('_', '-')}=mac:{profile}" for profile in PROFILES]
    hosts("up", name, *macs, "daemons=mac:m1_8", "plain=linux")
    yield name
    hosts("stop", name)


@pytest.fixture(scope="session")
def plain(session: str) -> Host:
    return Host(session, "plain")


@pytest.fixture(scope="session")
def by_profile(session: str) -> t.Callable[[str], Host]:
    known = {profile: Host(session, profile.replace("_", "-")) for profile in PROFILES}
    return known.__getitem__


@pytest.fixture(scope="session")
def daemons(session: str) -> Host:
    return Host(session, "daemons")


@pytest.fixture
def mac(daemons: Host) -> t.Iterator[Host]:
    """The Mac for tests that change things; its knobs are gone afterwards."""
    yield daemons
    daemons.sh("rm -f /.sim/launchd.json /.sim/ps.json /.sim/sysctl.json", check=True)


@pytest.fixture
def knobs(mac: Host) -> t.Callable[..., None]:
    return lambda **settings: mac.put("/.sim/launchd.json", json.dumps(settings))


_LABELS = iter(range(1, 10000))


@pytest.fixture
def job(mac: Host) -> t.Iterator[Job]:
    """A label that no other test has used; unloaded and deleted afterwards."""
    one = Job(mac, f"ai.example.test{next(_LABELS, None)}")
    yield one
    mac.sh("rm -f /.sim/launchd.json", check=True)
    target = f"system/{one.label}"
    mac.sh(f"launchctl kill KILL {target}; launchctl bootout {target}; launchctl enable {target}; rm -f {one.path}")
    assert until(one.gone)


@pytest.fixture(scope="session")
def captures_dir() -> pathlib.Path:
    folder = pathlib.Path(os.environ.get("CAPTURES_DIR") or CHECKOUT.parent / "shared" / "captures")
    if not folder.is_dir():
        pytest.skip(f"the recordings are absent: {folder} is no folder (CAPTURES_DIR names another)")
    return folder
