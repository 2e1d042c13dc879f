# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The residency variable: what it is called, how a place where it may hide is reported, and when it may stay."""

from __future__ import annotations

import dataclasses
import typing as t

# ggml-metal tests this variable for PRESENCE: `=0` and an empty value disable residency sets as well
# (llama.cpp PR#11427; the cause of gpustack#1907 together with mmap).
RESIDENCY_VARIABLE = "GGML_METAL_NO_RESIDENCY"

PRESENT = "present"
ABSENT = "absent"
UNKNOWN = "unknown"


@dataclasses.dataclass(frozen=True)
class Place:
    """One place where the residency variable can hide, and what was seen there.

    kind: environment_file, plist, loaded_job, process, launchd_environment, unit_file, manager_environment, config_file.
    where: the path, label or "pid 123 (llama-box)" that a person would look at.
    state: present, absent, or unknown. What could not be seen is unknown, never absent.
    lines: 1-based line numbers, for places that are text files.
    reason: why the state is unknown, or a remark; empty otherwise.
    """

    kind: str
    where: str
    state: str
    lines: t.Tuple[int, ...] = ()
    reason: str = ""

    def as_dict(self) -> t.Dict[str, t.Any]:
        """The place as module return value."""
        return {"kind": self.kind, "where": self.where, "state": self.state, "lines": list(self.lines), "reason": self.reason}


@dataclasses.dataclass(frozen=True)
class ResidencyDecision:
    """Whether the variable is to be taken out on this host, and why.

    uncertain: it stays only because it cannot be told whether the host needs it, and a person has to say so.
    """

    remove: bool
    reason: str
    uncertain: bool = False


def decide(wanted: str, is_virtual: t.Optional[bool]) -> ResidencyDecision:
    """Decide what the option `residency_variable` means on a host.

    wanted: "absent" (always take it out), "unmanaged" (leave it), or "auto". is_virtual: whether the host is a virtual
    Mac (False for what is no Mac), None where that cannot be told.
    """
    if wanted == "unmanaged":
        return ResidencyDecision(False, "residency_variable is unmanaged")
    if wanted == "auto" and is_virtual:
        # Paravirtual GPUs can crash with residency sets on: lemonade PR#1526, llama.cpp#8617.
        return ResidencyDecision(False, f"this is a virtual Mac, whose paravirtual GPU may need {RESIDENCY_VARIABLE} to work at all")
    if wanted == "auto" and is_virtual is None:
        return ResidencyDecision(
            False,
            f"it cannot be told whether this is a virtual Mac, which may need {RESIDENCY_VARIABLE} to work at all, so the variable is left "
            "alone: set residency_variable to absent or to unmanaged",
            uncertain=True,
        )
    return ResidencyDecision(True, f"{RESIDENCY_VARIABLE} disables Metal residency sets by its mere presence")


def left_over(places: t.Sequence[Place], models_follow: bool) -> t.Tuple[str, t.List[str]]:
    """What to say of the places of a node on which all is done: why that is a failure (empty where it is none), and warnings.

    models_follow: what a process of a model has from that model's own env is seen to later, and nothing on the node takes it out.
    """
    present = [place for place in places if place.state == PRESENT]
    of_models = [place for place in present if models_follow and place.kind == "process"]
    left = ", ".join(place.where for place in present if place not in of_models)
    warnings = []
    if of_models:
        warnings.append(
            f"{RESIDENCY_VARIABLE} is left in {', '.join(place.where for place in of_models)}, which is seen to with the models"
        )
    unseen = ", ".join(place.where for place in places if place.state == UNKNOWN)
    if unseen:
        warnings.append(f"{RESIDENCY_VARIABLE} is unknown, not absent, in {unseen}")
    failure = (
        f"{RESIDENCY_VARIABLE} is still present in {left}. What the files and the service manager held is gone, so something else sets"
        " it: a model's own env in GPUStack's server, or a wrapper script"
    )
    return failure if left else "", warnings
