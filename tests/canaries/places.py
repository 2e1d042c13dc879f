# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a canary may be, and why. Everywhere else it is a leak. An entry that a whole run has no use for fails it."""

from __future__ import annotations

import dataclasses
import re


@dataclasses.dataclass(frozen=True)
class Place:
    """where: of a host's or the controller's places, as watch.py names them. who: names of canaries. closed: it is a file that nobody but
    its owner may ever be able to read; others are as they were found, or in a folder that is closed.
    """

    where: str
    who: str
    reason: str
    closed: bool = False

    def allows(self, where: str, who: str, open_to_others: bool = False) -> bool:
        """Whether a canary may be there."""
        known = re.fullmatch(self.where, where) is not None and re.fullmatch(self.who, who) is not None
        return known and not (self.closed and open_to_others)


# Of a file that is replaced: the new one beside it, until it is renamed.
_NEW = r"(\.\d+\.metalfleet)?"
_STATE = r"(mac:file:/var/db|linux:file:/var/lib)/metalfleet"
_OF_FILE = r"file_\w+|secret\w*|text"

ALLOWED = (
    Place(rf"(mac|linux):file:/etc/default/\.?gpustack{_NEW}", _OF_FILE, "the environment file, which GPUStack reads"),
    Place(
        rf"mac:file:/Library/LaunchDaemons/\.?ai\.gpustack\.plist{_NEW}",
        rf"plist|argument|{_OF_FILE}",
        "the property list, which launchd reads",
    ),
    Place(
        rf"linux:file:/etc/systemd/system/gpustack\.service(\.d/\.?ours\.conf)?{_NEW}",
        "unit|argument|drop_in",
        "the unit, which systemd reads",
    ),
    Place(
        rf"{_STATE}/undo-\d+/\d+",
        rf"plist|argument|unit|drop_in|{_OF_FILE}",
        "what a transaction changed, to go back to; root's folder, 0700",
    ),
    Place(
        rf"{_STATE}/\.?(journal|previous)\.json{_NEW}",
        "residency",
        "the command that gives GGML_METAL_NO_RESIDENCY its value again; root only, 0600",
        closed=True,
    ),
    Place(
        r"(mac|linux):argv:.*(launchctl|systemctl).*", "residency", "neither has another way to set a variable; its presence is what counts"
    ),
    Place(
        r"linux:(journal|file:/var/log/journal/.*)",
        "file_export",
        "systemd's own: it logs each line of an environment file that it ignores, such as one that begins with export",
    ),
    Place(r"mac:file:/\.sim/calls\.jsonl", "residency", "the stand-in for launchctl keeps what it was told"),
    Place(r"controller:environ:.*", "key_in_environment", "GPUSTACK_API_KEY, where who runs Ansible has put it"),
    Place(
        r"(mac|linux):file:.*/ansible-tmp-[^/]+/AnsiballZ_\w+\.py",
        rf"url_\w+|misspelled|{_OF_FILE}",
        "Ansible's own: without pipelining a module's options reach the node in a file, 0600 in a folder 0700, which is removed",
        closed=True,
    ),
    Place(
        r"controller:file:(tmp|home)/.*(ansible-local-|ansible-tmp-)[^/]+/.*",
        r".*",
        "Ansible's own: modules on their way, on the controller, in a folder 0700 that is removed",
    ),
)
