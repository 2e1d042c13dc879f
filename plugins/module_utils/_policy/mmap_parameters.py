# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""A model's backend_parameters where they speak of mmap: as llama-box reads them, as GPUStack's estimator does, as they should be.

llama-box gets each parameter cut at its first "=" (gpustack/worker/backends/llama_box.py), knows flags by their exact names,
skips what it does not know, and takes the last of --mmap and --no-mmap (llama-box/engine_param.hpp). The estimator reads the same
list with argparse and, at the first value that argparse refuses, goes on as if there were no parameters at all
(gpustack/scheduler/calculator.py, from_args; measured: --mmap=true, --ctx-size abc).
"""

from __future__ import annotations

import argparse
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import estimator, versions
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

MMAP = "--mmap"
NO_MMAP = "--no-mmap"
FLAGS = (NO_MMAP, MMAP)

# GPUStack 0.6.0 does not pass --no-mmap to llama-box, and its estimator cannot be told (PR#1767, mended by 1ac64e9a in 0.6.1).
WITHOUT_NO_MMAP = (0, 6, 0)

_NAME_END = re.compile(r"[=\s]")
_NAMES = ("mmap", "no-mmap")
# What the estimator of 0.6.1 takes for one of the two. With one dash, -mm is another option of llama.cpp.
_ABBREVIATIONS = ("--mm", "--mma", "--no-m", "--no-mm", "--no-mma")
# A value that was meant for the flag before it, which takes none.
_SWITCH_VALUES = ("true", "false", "on", "off", "yes", "no", "1", "0")


def checked(parameters: t.Any) -> t.List[str]:
    """The parameters as a new list of texts; null, which breaks instances of GPUStack 0.6, is an empty one."""
    if parameters is None:
        return []
    if not isinstance(parameters, (list, tuple)):
        raise BadInputError(
            f"backend_parameters is of type {type(parameters).__name__}: write a list of texts, such as ['--ctx-size=8192']"
        )
    for position, parameter in enumerate(parameters, 1):
        if not isinstance(parameter, str):
            raise BadInputError(f"backend_parameters: element {position} is of type {type(parameter).__name__}: put it in quotes")
    return [str(parameter) for parameter in parameters]


def speaks_of_mmap(parameter: str) -> bool:
    """Whether a parameter is a spelling of --mmap or --no-mmap, also one that only GPUStack or only a person reads as such."""
    name = _NAME_END.split(parameter.strip())[0]
    return name in _ABBREVIATIONS or (name.startswith("-") and name.lstrip("-") in _NAMES)


def with_flag(parameters: t.Any, flag: t.Optional[str], extra: t.Sequence[str] = ()) -> t.List[str]:
    """The parameters with `flag` as the only one of its kind, and with those of `extra` that they lack at their end.

    flag: --mmap, --no-mmap, or None to leave the parameters as they are. All others keep their order. Parameters that already
    are so stay as they are; else the flag goes first, where no option before it can take it for its value.
    """
    given = checked(parameters)
    if flag is None:
        merged = given
    else:
        is_so = flag in given and len(_without_mmap(given)) == len(given) - 1
        merged = given if is_so else [flag] + _without_mmap([flag] + given)
    return merged + [parameter for parameter in extra if parameter not in merged]


def _without_mmap(parameters: t.Sequence[str]) -> t.List[str]:
    others: t.List[str] = []
    after_flag = False
    for parameter in parameters:
        after_flag = speaks_of_mmap(parameter) or (after_flag and parameter.strip().lower() in _SWITCH_VALUES)
        if not after_flag:
            others.append(parameter)
    return others


def is_without_no_mmap(gpustack_version: t.Optional[str]) -> bool:
    """Whether this is the GPUStack that neither passes --no-mmap to llama-box nor lets its estimator be told, 0.6.0."""
    version = versions.parse(gpustack_version)
    return version is not None and (version.release + (0,))[:3] == WITHOUT_NO_MMAP


def engine_uses_mmap(parameters: t.Any, gpustack_version: t.Optional[str]) -> bool:
    """Whether llama-box maps the model with these parameters, on a worker of this GPUStack version."""
    found = [parameter.partition("=")[0] for parameter in checked(parameters)]
    flags = [name for name in found if name in FLAGS]
    return flags[-1] == MMAP if flags else is_without_no_mmap(gpustack_version)


def estimator_assumes_mmap(parameters: t.Any, gpustack_version: t.Optional[str]) -> bool:
    """Whether the server's estimator leaves the weights out of what a model claims on a Mac."""
    parser = estimator.parser_of(gpustack_version)
    if parser is None:
        return is_without_no_mmap(gpustack_version)
    try:
        return bool(parser.parse_known_args(checked(parameters))[0].mmap)
    except argparse.ArgumentError:
        return False


def estimator_rejects(parameters: t.Any, gpustack_version: t.Optional[str]) -> t.List[t.Tuple[str, str]]:
    """The parameters, each with the reason, for any of which the estimator drops ALL of the model's, while llama-box gets them."""
    parser = estimator.parser_of(gpustack_version)
    if parser is None:
        return []
    rejected = []
    for unit in _units(parser, checked(parameters)):
        problem = _problem(parser, unit)
        if problem:
            # The value belongs to the story only where the option without it has another problem.
            parameter = unit[0] if _problem(parser, unit[:1]) == problem else " ".join(unit[:2])
            rejected.append((parameter, f"GPUStack's estimator refuses it ({problem}) and then ignores all parameters of the model"))
    return rejected


def _units(parser: argparse.ArgumentParser, parameters: t.Sequence[str]) -> t.List[t.List[str]]:
    """Each option with the arguments after it: what argparse makes of one depends on nothing else."""
    units: t.List[t.List[str]] = []
    for position, parameter in enumerate(parameters):
        all_arguments = "--" in parameters[: position + 1]
        if units and (all_arguments or not _problem(parser, [estimator.ANY_TEXT, parameter])):
            units[-1].append(parameter)
        else:
            units.append([parameter])
    return units


def _problem(parser: argparse.ArgumentParser, parameters: t.Sequence[str]) -> str:
    try:
        parser.parse_known_args(list(parameters))
    except argparse.ArgumentError as exc:
        return str(exc)
    return ""
