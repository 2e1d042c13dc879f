# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What has to change so that a Mac's wired limit is as wanted, now and after each boot.

The kernel forgets the limit at a reboot and macOS ignores /etc/sysctl.conf since Big Sur, so a LaunchDaemon sets it again.
"""

from __future__ import annotations

import dataclasses
import plistlib
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.diffs import diff_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.property_list import parse
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.wired_limit import COLLECTOR_NAME, NAMES, Wanted, limit_mib

LABEL = "org.metalfleet.wired-limit"
FOLDER = "/Library/LaunchDaemons"
PLIST_PATH = f"{FOLDER}/{LABEL}.plist"
PLIST_MODE = 0o644

# Part of both names of the limit. Property lists have it as it is, whether they are XML or binary.
_LIMIT_MARK = b"iogpu.wired_limit"
_ARGUMENT = re.compile(r"([a-z_.]+)=([0-9]{1,19})")


@dataclasses.dataclass(frozen=True)
class PlistFile:
    """What is at PLIST_PATH. data: None where that is no regular file."""

    data: t.Optional[bytes]
    mode: int = PLIST_MODE
    uid: int = 0
    gid: int = 0


@dataclasses.dataclass(frozen=True)
class Seen:
    """The machine as found. live: the values of those sysctls that it knows. plist: None where nothing is at its path.

    is_disabled: launchd was told not to load our daemon. other_daemons: property lists of others that set the limit.
    """

    live: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    plist: t.Optional[PlistFile] = None
    is_disabled: bool = False
    other_daemons: t.Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Setting:
    """A live value to be changed."""

    name: str
    before: int
    after: int


@dataclasses.dataclass(frozen=True)
class Plan:
    """What has to be done.

    live: the values as they are to be afterwards. settings: those that have to be changed. at_boot: what the daemon sets; empty
    where there is to be none. plist_problem: why the property list has to be written; empty where it has not. replace_plist: it
    has to make room first, since writing keeps an owner and follows no link. remove_plist: it has to go. enable: launchd has to
    be told to load the daemon again. shown_plist: the property list as found, for a diff.
    """

    live: t.Mapping[str, int]
    settings: t.Tuple[Setting, ...]
    at_boot: t.Mapping[str, int]
    plist_problem: str
    replace_plist: bool
    remove_plist: bool
    enable: bool
    warnings: t.Tuple[str, ...]
    shown_plist: str

    def changes(self) -> t.Tuple[t.Dict[str, t.Any], ...]:
        """The changes for people, in the order in which they are made."""
        found = [_change("sysctl", setting.name, "set", setting.before, setting.after) for setting in self.settings]
        if self.plist_problem:
            found.append(_change("boot_daemon", PLIST_PATH, "written"))
        if self.remove_plist:
            found.append(_change("boot_daemon", PLIST_PATH, "removed"))
        if self.enable:
            found.append(_change("boot_daemon", LABEL, "enabled"))
        return tuple(found)

    def diffs(self) -> t.Tuple[t.Dict[str, str], ...]:
        """The changes in the form that Ansible prints."""
        found = []
        if self.settings:
            before = "".join(f"{setting.name}: {setting.before}\n" for setting in self.settings)
            found.append(diff_of("sysctl", before, "".join(f"{setting.name}: {setting.after}\n" for setting in self.settings)))
        if self.plist_problem or self.remove_plist:
            found.append(diff_of(PLIST_PATH, self.shown_plist, plist_bytes(self.at_boot).decode() if self.at_boot else ""))
        if self.enable:
            found.append(diff_of(f"launchd's {LABEL}", "disabled\n", "enabled\n"))
        return tuple(found)

    def problems(self, seen: Seen) -> t.Tuple[str, ...]:
        """What of it is not so, one clause each."""
        found = [
            f"{name} is {seen.live.get(name, 'unknown')} and not {value}"
            for name, value in self.live.items()
            if seen.live.get(name) != value
        ]
        if self.at_boot:
            problem = find_plist_problem(seen.plist, self.at_boot)
            if problem:
                found.append(f"{PLIST_PATH} {problem}")
            if seen.is_disabled:
                found.append(f"launchd still has {LABEL} disabled")
        elif seen.plist is not None:
            found.append(f"{PLIST_PATH} is still there")
        return tuple(found)


def make_plan(wanted: Wanted, seen: Seen) -> Plan:
    """Compare what was found with what is wanted."""
    at_boot = wanted.settings_at_boot()
    ours = _settings_of(seen.plist)
    # What our daemon set and is wanted no longer goes; what somebody has set since is not ours.
    live = {name: 0 for name, value in ours.items() if seen.live.get(name) == value}
    live.update(wanted.values)
    return Plan(
        live=live,
        settings=tuple(Setting(name, seen.live[name], value) for name, value in live.items() if seen.live[name] != value),
        at_boot=at_boot,
        plist_problem=find_plist_problem(seen.plist, at_boot) if at_boot else "",
        replace_plist=bool(at_boot) and seen.plist is not None and _is_foreign(seen.plist),
        remove_plist=seen.plist is not None and not at_boot,
        enable=bool(at_boot) and seen.is_disabled,
        warnings=wanted.warnings + tuple(_other_daemon(path) for path in seen.other_daemons),
        shown_plist=_shown(seen.plist, ours),
    )


def as_result(wanted: Wanted, seen: Seen, plan: t.Optional[Plan]) -> t.Dict[str, t.Any]:
    """This resource's part of a return value. plan: None where nothing is looked for."""
    after = {**seen.live, **(plan.live if plan is not None else {})}
    collector = after.get(COLLECTOR_NAME)
    return {
        "applies": wanted.applies,
        "reason": wanted.reason,
        "limit_mib_before": limit_mib(seen.live),
        "limit_mib": limit_mib(after),
        "boot_daemon": None if plan is None else bool(plan.at_boot),
        "wired_collector_disabled": None if collector is None else bool(collector),
    }


def plist_bytes(at_boot: t.Mapping[str, int]) -> bytes:
    """The property list of the daemon that sets these values at boot."""
    return plistlib.dumps(_definition(at_boot))


def find_plist_problem(plist: t.Optional[PlistFile], at_boot: t.Mapping[str, int]) -> str:
    """What is wrong with our property list; empty where nothing is. Its formatting does not count."""
    if plist is None:
        return "does not exist"
    if plist.data is None:
        return "is not a regular file"
    if (plist.uid, plist.gid) != (0, 0):
        # launchd refuses it then (bootstrap error 5).
        return f"belongs to {plist.uid}:{plist.gid} instead of root and wheel"
    if plist.mode != PLIST_MODE:
        return f"has the mode {plist.mode:04o} instead of {PLIST_MODE:04o}"
    return "" if _content(plist.data) == _definition(at_boot) else "says something else"


def mentions_limit(data: bytes) -> bool:
    """Whether a property list names the sysctl of the wired limit, in the words of any macOS."""
    return _LIMIT_MARK in data


def _is_foreign(plist: PlistFile) -> bool:
    return plist.data is None or (plist.uid, plist.gid) != (0, 0)


def _definition(at_boot: t.Mapping[str, int]) -> t.Dict[str, t.Any]:
    arguments = ["/usr/sbin/sysctl", *(f"{name}={value}" for name, value in at_boot.items())]
    return {"Label": LABEL, "ProgramArguments": arguments, "RunAtLoad": True}


def _content(data: bytes) -> t.Dict[str, t.Any]:
    """What a property list says; nothing where it is none."""
    try:
        return parse(data, PLIST_PATH).content
    except BadInputError:
        return {}


def _settings_of(plist: t.Optional[PlistFile]) -> t.Dict[str, int]:
    """The values that our property list sets, as far as it is ours."""
    content = {} if plist is None or plist.data is None else _content(plist.data)
    arguments = content.get("ProgramArguments")
    words = arguments if isinstance(arguments, list) else []
    found = [_ARGUMENT.fullmatch(word) for word in words if isinstance(word, str)]
    return {match.group(1): int(match.group(2)) for match in found if match is not None and match.group(1) in NAMES}


def _shown(plist: t.Optional[PlistFile], ours: t.Mapping[str, int]) -> str:
    """The property list for a diff. Of what did not come from this module nothing is shown."""
    if plist is None:
        return ""
    if plist.data is not None and _content(plist.data) == _definition(ours):
        owner = "" if (plist.uid, plist.gid, plist.mode) == (0, 0, PLIST_MODE) else f"(mode {plist.mode:04o}, {plist.uid}:{plist.gid})\n"
        return owner + plist_bytes(ours).decode()
    return "(not what this module writes)\n"


def _other_daemon(path: str) -> str:
    return (
        f"{path} sets the wired limit at each boot, too, so what holds after a reboot is not decided here:"
        " remove it, or leave the limit to it with state: absent"
    )


def _change(resource: str, where: str, action: str, before: t.Optional[int] = None, after: t.Optional[int] = None) -> t.Dict[str, t.Any]:
    return {"resource": resource, "where": where, "action": action, "before": before, "after": after}
