# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""The command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing as t

from . import image, inventory, keeper, places, profiles, session, skins
from .boot import Spec
from .places import HostsError
from .state import SessionState

UP_LIMIT_SECONDS = 120.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hosts", description="Disposable hosts from kernel namespaces, overlayfs and OpenSSH.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("image", help="build the base image and the layers of both kinds, or find them built")
    start = commands.add_parser("start", help="start a session: its own network, processes and mounts")
    start.add_argument("session")
    start.add_argument("--owner-pid", type=int, default=os.getppid(), help="the session ends with this process (default: the caller)")
    for name, text in (("stop", "end a session and all its hosts"), ("inventory", "print an Ansible inventory")):
        commands.add_parser(name, help=text).add_argument("session")
    up = commands.add_parser("up", help="boot hosts side by side and wait for their ssh servers")
    up.add_argument("session")
    up.add_argument("hosts", nargs="*", metavar="NAME[=KIND[:PROFILE[:LAYER,...]]]")
    up.add_argument("--kind", choices=("mac", "linux"), default="linux")
    up.add_argument("--profile", default=profiles.DEFAULT, help="hardware of a Mac: a name in profiles/ or a JSON file")
    up.add_argument("--layer", action="append", default=[], metavar="DIR", help="read-only folder above the image; the last is on top")
    up.add_argument("--spec", metavar="FILE", help="JSON list of {name, kind, profile, layers}; - reads standard input")
    up.add_argument("--timeout", type=float, default=UP_LIMIT_SECONDS)
    ends = {"down": "end hosts", "crash": "end hosts as a power cut does, and keep their disks", "boot": "boot crashed hosts again"}
    for name, text in ends.items():
        end = commands.add_parser(name, help=text)
        end.add_argument("session")
        end.add_argument("hosts", nargs="+", metavar="NAME")
    run = commands.add_parser("run", help="run a command inside the session's network: run SESSION -- COMMAND...")
    run.add_argument("session")
    run.add_argument("argv", nargs=argparse.REMAINDER)
    ssh = commands.add_parser("ssh", help="ssh SESSION [--user USER] NAME -- COMMAND...")
    ssh.add_argument("session")
    ssh.add_argument("--user", default="root", choices=("root", skins.ADMIN))
    ssh.add_argument("host")
    ssh.add_argument("argv", nargs=argparse.REMAINDER)
    commands.add_parser("list", help="sessions and their hosts")
    commands.add_parser("gc", help="remove what dead sessions left behind")
    for hidden in ("_supervise", "_keep"):
        inner = commands.add_parser(hidden)
        inner.add_argument("session")
        inner.add_argument("owner", type=int)
    return parser


def _specs(options: argparse.Namespace) -> t.List[Spec]:
    described: t.List[t.Dict[str, t.Any]] = []
    if options.spec:
        text = sys.stdin.read() if options.spec == "-" else pathlib.Path(options.spec).read_text(encoding="utf-8")
        described = json.loads(text)
    for word in options.hosts:
        name, _equals, rest = word.partition("=")
        kind, profile, layers = (rest.split(":", 2) + ["", "", ""])[:3]
        described.append({"name": name, "kind": kind, "profile": profile, "layers": [*options.layer, *filter(None, layers.split(","))]})
    if not described:
        raise HostsError("which hosts? name at least one")
    return [_spec(one, options) for one in described]


def _spec(described: t.Dict[str, t.Any], options: argparse.Namespace) -> Spec:
    kind = described.get("kind") or options.kind
    if kind not in inventory.GROUPS:
        raise HostsError(f"{described['name']}: kind is mac or linux, not {kind!r}")
    profile = (described.get("profile") or options.profile) if kind == "mac" else ""
    if profile:
        profiles.load(profile)
    layers = [os.path.abspath(folder) for folder in described.get("layers", [])]
    for folder in layers:
        if not os.path.isdir(folder) or ":" in folder or "," in folder:
            raise HostsError(f"{described['name']}: layer {folder!r} is not a folder (or has ':' or ',' in its path)")
    return Spec(name=places.checked_name(described["name"]), kind=kind, profile=profile, layers=layers)


def _image(_options: argparse.Namespace) -> None:
    image.install_machine_tools()
    print(image.base())
    for kind in sorted(inventory.GROUPS):
        print(skins.layer(kind))


def _up(options: argparse.Namespace) -> None:
    specs = _specs(options)
    request = {"action": "up", "specs": [dataclasses.asdict(spec) for spec in specs], "limit": options.timeout}
    for spec, address in zip(specs, session.ask(options.session, request)):
        print(f"{spec.name} {address}")


def _end_or_boot(options: argparse.Namespace) -> None:
    session.ask(options.session, {"action": options.command, "names": options.hosts, "limit": UP_LIMIT_SECONDS})


def _command(options: argparse.Namespace) -> t.List[str]:
    argv: t.List[str] = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    return argv


def _run(options: argparse.Namespace) -> int:
    command = _command(options)
    if not command:
        raise HostsError("run what? hosts run SESSION -- COMMAND...")
    return session.run(options.session, command)


def _ssh(options: argparse.Namespace) -> int:
    command = inventory.ssh_command(SessionState(options.session), options.host, _command(options), options.user)
    return session.run(options.session, command)


def _list(_options: argparse.Namespace) -> None:
    for name in session.living():
        state = SessionState(name)
        print(f"{name} (owner {state.read_facts()['owner_pid']})")
        for spec in state.specs():
            print(f"  {spec.name} {spec.kind} {spec.address} {spec.profile}".rstrip())


_COMMANDS: t.Dict[str, t.Callable[[argparse.Namespace], t.Optional[int]]] = {
    "image": _image,
    "start": lambda options: session.start(options.session, options.owner_pid),
    "stop": lambda options: session.stop(options.session),
    "up": _up,
    **dict.fromkeys(("down", "crash", "boot"), _end_or_boot),
    "run": _run,
    "ssh": _ssh,
    "inventory": lambda options: print(inventory.text(SessionState(options.session)), end=""),
    "list": _list,
    "gc": lambda options: print("".join(f"{name}\n" for name in session.gc()), end=""),
    "_supervise": lambda options: session.supervise(options.session, options.owner),
    "_keep": lambda options: keeper.run(options.session, options.owner),
}


def main(arguments: t.Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options) or 0
    except (HostsError, subprocess.TimeoutExpired) as error:
        print(f"hosts: {error}", file=sys.stderr)
        return 1
