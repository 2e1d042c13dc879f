# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fleets of which some nodes fail, run by the playbook `site` over ssh: the others are right, and each that failed is reported."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import pathlib
import re
import subprocess
import time
import typing as t

import archives
from disposable.state import SessionState
from fault import FaultError, require, require_same_files, require_wanted
from faulty_node import BUILDS, ENVIRONMENT, RELEASE, FaultyNode
from fleet import HOSTS, Fleet
from mirrors import Beside

_AT_ONCE = 8
_LIMIT_SECONDS = 1800.0
_RECAP = re.compile(r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.M)
_FATAL = re.compile(r"^fatal: \[(\S+?)\]: (?:FAILED|UNREACHABLE)! => (.*)$", re.M)
# A run that is in the middle has one of these.
_JOURNAL = "test -e /var/lib/metalfleet/journal.json"
_HOLD = """setsid python3 -c '
import fcntl, os, time
os.makedirs("/var/lib/metalfleet", 0o700, exist_ok=True)
lock = open("/var/lib/metalfleet/lock", "w")
lock.write("process 1 since long ago")
lock.flush()
fcntl.flock(lock, fcntl.LOCK_EX)
open("/run/held", "w").write(str(os.getpid()))
time.sleep(3600)' >/dev/null 2>&1 </dev/null &
until test -e /run/held; do sleep 0.1; done"""


@dataclasses.dataclass(frozen=True)
class FleetFault:
    """story: what happens in a session of its own, given the layer of make_layer() and the size of a large fleet."""

    name: str
    story: t.Callable[[Fleet, pathlib.Path, int], None]
    some: bool = False


@dataclasses.dataclass(frozen=True)
class Broken:
    """A node that has to fail. plant, heal: its fault. variables: of the inventory, until it is healed. says: in what is reported."""

    says: str
    plant: t.Callable[[FaultyNode], t.Any] = lambda node: None
    heal: t.Callable[[FaultyNode], t.Any] = lambda node: None
    variables: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    kind: str = "linux"
    bare: bool = False


@dataclasses.dataclass(frozen=True)
class Played:
    """A run of the playbook. recap: host -> changed, unreachable, failed. told: host -> what was reported of it."""

    status: int
    output: str
    recap: t.Mapping[str, t.Tuple[int, int, int]]
    told: t.Mapping[str, str]


class Many:
    """The nodes of a session and their inventory."""

    def __init__(self, fleet: Fleet, layer: pathlib.Path, kinds: t.Mapping[str, str]) -> None:
        self.fleet = fleet
        self.nodes = {name: FaultyNode(fleet.session, name, kind, layer) for name, kind in kinds.items()}
        self._layer = layer

    def boot(self, bare: t.Container[str] = ()) -> None:
        """Boot all, with GPUStack but on those that are bare."""
        profiles = {"mac": "m3_ultra_512", "linux": ""}
        self.fleet.boot({name: f"{node.kind}:{profiles[node.kind]}:{self._layer}" for name, node in self.nodes.items()})
        self.on_all(lambda node: node.install(), [node for name, node in self.nodes.items() if name not in bare])

    def on_all(self, work: t.Callable[[FaultyNode], t.Any], nodes: t.Optional[t.Iterable[FaultyNode]] = None) -> t.List[t.Any]:
        """On some nodes at a time."""
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(work, self.nodes.values() if nodes is None else nodes))

    def write_inventory(self, mirror: Beside, own: t.Mapping[str, t.Mapping[str, t.Any]], **more: t.Any) -> None:
        """own: variables of single nodes."""
        releases = {BUILDS[kind]: archives.release_data(mirror.folder / "files", mirror.base_url, RELEASE, BUILDS[kind]) for kind in BUILDS}
        lock = self.fleet.folder / "llama_box.lock.yml"
        lock.write_text(json.dumps({"format": 1, "releases": {RELEASE: releases}}))
        variables = {
            "ansible_user": "fleet",
            "gpustack_node_environment": ENVIRONMENT,
            "gpustack_node_llama_box_version": RELEASE,
            "gpustack_node_llama_box_slots": ["builtin"],
            "gpustack_node_llama_box_base_url": mirror.base_url,
            "gpustack_node_llama_box_retries": 1,
            "gpustack_node_wired_limit_state": "present",
            "gpustack_node_settle_seconds": 1,
            "gpustack_node_health_timeout_seconds": 30,
            **more,
        }
        members = {name: dict(own.get(name, {})) for name in self.nodes}
        (self.fleet.folder / "inventory.yml").write_text(json.dumps({"gpustack": {"hosts": members, "vars": variables}}))

    def start(self, *arguments: str, playbook: str = "site") -> subprocess.Popen[str]:
        """The playbook, on its way."""
        command = self.fleet.playbook_command(f"metalfleet.gpustack.{playbook}", "-f", "20", *arguments)
        return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def play(self, *arguments: str, playbook: str = "site") -> Played:
        """The playbook, from beginning to end."""
        return finish(self.start(*arguments, playbook=playbook))


def finish(process: subprocess.Popen[str]) -> Played:
    """Wait for the end of a run."""
    output, _none = process.communicate(timeout=_LIMIT_SECONDS)
    recap = {host: (int(changed), int(unreachable), int(failed)) for host, changed, unreachable, failed in _RECAP.findall(output)}
    return Played(process.returncode, output, recap, dict(_FATAL.findall(output)))


def _link(node: FaultyNode, state: str) -> None:
    """The cable of a host."""
    link = SessionState(node.session).spec(node.name).link
    subprocess.run([HOSTS, "run", node.session, "--", "ip", "link", "set", link, state], check=True, timeout=60)


def _await_journal(node: FaultyNode) -> None:
    end = time.monotonic() + 300
    while node.sh(f"{_JOURNAL} && echo yes || true").strip() != "yes":
        if time.monotonic() > end:
            raise FaultError(f"the run does not come to its middle on {node.name}")
        time.sleep(0.2)


def _unreachable_in_the_middle(fleet: Fleet, layer: pathlib.Path, _size: int) -> None:
    """One node's cable is pulled, another one's connections are cut, the third goes on."""
    many = Many(fleet, layer, {"unplugged": "linux", "cut": "linux", "well": "linux"})
    many.boot()
    with Beside(many.nodes["well"]) as mirror:
        # So long is the middle.
        many.write_inventory(mirror, {}, gpustack_node_settle_seconds=20)
        process = many.start()
        _await_journal(many.nodes["unplugged"])
        _link(many.nodes["unplugged"], "down")
        _await_journal(many.nodes["cut"])
        # It cuts its own connection as well.
        many.nodes["cut"].sh("python3 /opt/faults/on_faulty_host.py cut", check=False)
        played = finish(process)
        require(played.status != 0, f"the run succeeded:\n{played.output}")
        lost = {host: recap[1:] for host, recap in played.recap.items()}
        require(lost == {"unplugged": (1, 0), "cut": (1, 0), "well": (0, 0)}, f"unreachable and failed are {lost}:\n{played.output}")
        for name in ("unplugged", "cut"):
            require("connect" in played.told[name].lower(), f"{name} is reported with {played.told[name]}")
        require_wanted(many.nodes["well"].look())
        _link(many.nodes["unplugged"], "up")
        again = many.play()
        require(again.status == 0, f"the next run failed:\n{again.output}")
        # Each would cost every node a process of Ansible.
        require("skipping:" not in again.output, f"it did not end after the nodes:\n{again.output}")
        for node in many.nodes.values():
            require_wanted(node.look())
        last = many.play()
        require(last.status == 0 and not any(recap[0] for recap in last.recap.values()), f"a third run changed something:\n{last.output}")


def _broken(mirror_url: str) -> t.Dict[str, Broken]:
    def away(node: FaultyNode) -> None:
        node.sh("kill $(cat /run/held)")

    return {
        "full": Broken(
            r"make room there|No space left on device",
            lambda node: [node.act("tmpfs", node.state, "100", "400"), node.act("fill", node.state)],
            lambda node: node.act("make_room", node.state),
        ),
        "read-only": Broken(
            "Read-only file system",
            lambda node: node.act("read_only", "/etc/default"),
            lambda node: node.act("writable", "/etc/default"),
        ),
        "no-archive": Broken(r"does not exist \(status 404\)", variables={"gpustack_node_llama_box_base_url": f"{mirror_url}/nowhere"}),
        "tampered": Broken("somebody has tampered with it", variables={"gpustack_node_llama_box_base_url": f"{mirror_url}/tampered"}),
        "dies": Broken(
            "the node got worse: .*everything that was changed was put back, and the node works as before",
            variables={
                "gpustack_node_environment": {**ENVIRONMENT, "STAND_IN_DIES_AFTER_SECONDS": "3"},
                "gpustack_node_settle_seconds": 8,
                "gpustack_node_health_timeout_seconds": 5,
            },
        ),
        "hangs": Broken(
            "did not end within 20 seconds and was killed",
            lambda node: node.write("/.sim/hang.json", '{"launchctl": []}'),
            lambda node: node.sh("rm /.sim/hang.json"),
            kind="mac",
        ),
        "unplugged": Broken("[Cc]onnect", lambda node: _link(node, "down"), lambda node: _link(node, "up")),
        "refuses": Broken(
            "launchctl bootout .* failed: rc 5: ",
            lambda node: node.write("/.sim/launchd.json", '{"return_codes": {"bootout": [5]}}'),
            kind="mac",
        ),
        "without-gpustack": Broken("install GPUStack", heal=lambda node: node.install(), bare=True),
        "held": Broken("another run works on this node: process 1 since long ago", lambda node: node.sh(_HOLD), away),
    }


def _ten_fail(fleet: Fleet, layer: pathlib.Path, size: int) -> None:
    """Ten nodes fail, each in another way, and all others are right."""
    broken = _broken("")
    right = {f"node-{number:02}": "mac" if number % 10 == 9 else "linux" for number in range(size - len(broken))}
    many = Many(fleet, layer, {**right, **{name: one.kind for name, one in broken.items()}})
    many.boot(bare=[name for name, one in broken.items() if one.bare])
    with Beside(many.nodes["node-00"]) as mirror:
        broken = _broken(mirror.base_url)
        tampered = mirror.folder / "files/tampered" / mirror.path[1:]
        tampered.parent.mkdir(parents=True)
        tampered.write_bytes(mirror.file().read_bytes().replace(b"stand-in", b"STAND-IN"))
        many.write_inventory(mirror, {name: one.variables for name, one in broken.items()})
        before = {}
        for name, one in broken.items():
            before[name] = many.nodes[name].look() if not one.bare else None
            one.plant(many.nodes[name])
        played = many.play()
        require(played.status != 0, "the run succeeded")
        failed = {host for host, (_changed, unreachable, failures) in played.recap.items() if unreachable or failures}
        require(failed == set(broken), f"the nodes that failed are {sorted(failed)}:\n{played.output[-5000:]}")
        for name, one in broken.items():
            require(re.search(one.says, played.told.get(name, "")) is not None, f"{name} is reported with {played.told.get(name)}")
        for look in many.on_all(lambda node: node.look(), [many.nodes[name] for name in right]):
            require_wanted(look)
        for name, one in broken.items():
            one.heal(many.nodes[name])
            now, was = many.nodes[name].look(), before[name]
            if was is not None:
                require_same_files(now, was)
        many.write_inventory(mirror, {})
        again = many.play()
        require(again.status == 0, f"the next run failed:\n{again.output[-5000:]}")
        changed = {host for host, recap in again.recap.items() if recap[0]}
        require(changed == set(broken), f"the next run changed {sorted(changed)}")
        for look in many.on_all(lambda node: node.look(), [many.nodes[name] for name in broken]):
            require_wanted(look)


def _a_wave_is_the_last(fleet: Fleet, layer: pathlib.Path, _size: int) -> None:
    """In waves of two, one node of the first fails: the other one is right, and the second wave is not begun."""
    many = Many(fleet, layer, dict.fromkeys(("broken", "beside", "later"), "linux"))
    many.boot()
    # As for a run that sees to the nodes only, where the inventory names a server.
    waves = ("-e", "gpustack_serial=2", "-e", "gpustack_server_url=")
    server = {"gpustack_server_url": "http://192.0.2.1", "gpustack_server_api_key": "none"}
    with Beside(many.nodes["later"]) as mirror:
        nowhere = {"gpustack_node_llama_box_base_url": f"{mirror.base_url}/nowhere"}
        many.write_inventory(mirror, {"broken": nowhere}, **server)
        before = many.nodes["later"].look()
        played = many.play(*waves)
        require(played.status != 0, f"the run succeeded:\n{played.output}")
        require(list(played.told) == ["broken"], f"failures are reported of {sorted(played.told)}:\n{played.output}")
        require("later" not in played.recap, f"the second wave was begun:\n{played.output}")
        require_wanted(many.nodes["beside"].look())
        require_same_files(many.nodes["later"].look(), before)
        many.write_inventory(mirror, {}, **server)
        _link(many.nodes["broken"], "down")
        away = many.play(*waves)
        require("No further wave is begun, since this one lost broken." in away.output, f"the first wave was not the last:\n{away.output}")
        require(away.status != 0 and "later" not in away.recap, f"the second wave was begun:\n{away.output}")
        _link(many.nodes["broken"], "up")
        again = many.play(*waves)
        require(again.status == 0, f"the next run failed:\n{again.output}")
        # Each would cost every node a process of Ansible.
        require("skipping:" not in again.output, f"it did not end after the nodes:\n{again.output}")
        for node in many.nodes.values():
            require_wanted(node.look())
        many.nodes["broken"].sh("echo EDITED=1 >>/etc/default/gpustack")
        back = many.play(*waves, playbook="rollback")
        require(back.status != 0 and "changed since the run" in back.told.get("broken", ""), f"the way back is not refused:\n{back.output}")
        require("later" not in back.recap, f"the second wave went back:\n{back.output}")
        require_wanted(many.nodes["later"].look())


FAULTS = (
    FleetFault("a_wave_is_the_last", _a_wave_is_the_last, some=True),
    FleetFault("unreachable_in_the_middle", _unreachable_in_the_middle),
    FleetFault("ten_of_many_nodes_fail", _ten_fail),
)
