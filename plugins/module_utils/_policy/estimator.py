# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""The options that GPUStack's estimator knows, as the parser that it reads a model's backend_parameters with.

From gpustack/scheduler/calculator.py, GGUFParserCommandMutableParameters.from_args, of 0.6.1, 0.6.2, 0.7.0 and 0.7.1. GPUStack
0.6.0 has no such parser: it hands the few values it knows to gguf-parser as they are. The real argparse is used here, since what
it refuses and what it takes for an abbreviation is easier run than told.
"""

from __future__ import annotations

import argparse
import functools
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import versions

FIRST = (0, 6, 1)
_SECOND = (0, 6, 2)
_THIRD = (0, 7, 0)

# An option that takes any text, in every version: what it does not take for its value is an option itself.
ANY_TEXT = "--cache-type-k"

_SWITCH = "switch"
_FLAG = "flag"
_LIST = "list"

# What each option takes, since which version, and its names.
_OPTIONS: t.Tuple[t.Tuple[t.Any, t.Tuple[int, int, int], str], ...] = (
    (_SWITCH, FIRST, "--flash-attention --flash-attn --diffusion-fa -fa"),
    (int, FIRST, "--main-gpu -mg"),
    (int, FIRST, "--parallel-size --parallel -np"),
    (str, FIRST, "--platform-footprint"),
    (int, FIRST, "--batch-size -b"),
    (str, FIRST, "--cache-type-k -ctk"),
    (str, FIRST, "--cache-type-v -ctv"),
    (int, FIRST, "--ctx-size -c"),
    (float, _THIRD, "--rope-freq-base"),
    (float, _THIRD, "--rope-freq-scale"),
    (float, _THIRD, "--rope-scale"),
    (str, _THIRD, "--rope-scaling"),
    (int, _THIRD, "--yarn-orig-ctx"),
    (_LIST, _THIRD, "--override-tensor -ot"),
    (int, FIRST, "--gpu-layers-draft --n-gpu-layers-draft -ngld"),
    (_SWITCH, FIRST, "--mmap"),
    (_FLAG, FIRST, "--no-kv-offload -nkvo"),
    (str, FIRST, "--split-mode -sm"),
    (int, FIRST, "--ubatch-size -ub"),
    (int, FIRST, "--visual-max-image-size"),
    (int, _SECOND, "--max-projected-cache --visual-max-image-cache"),
    (_FLAG, _SECOND, "--swa-full"),
    (_FLAG, FIRST, "--image-autoencoder-tiling --image-vae-tiling --vae-tiling"),
    (_FLAG, FIRST, "--image-no-autoencoder-tiling --image-no-vae-tiling"),
    (int, FIRST, "--image-batch-count --batch-count --image-max-batch"),
    (_FLAG, FIRST, "--image-free-compute-memory-immediately"),
    (int, FIRST, "--image-height --height --image-max-height"),
    (_FLAG, FIRST, "--image-no-autoencoder-offload --vae-on-cpu --image-no-vae-model-offload"),
    (_FLAG, FIRST, "--image-no-conditioner-offload --clip-on-cpu --image-no-text-encoder-model-offload"),
    (_FLAG, FIRST, "--image-no-control-net-offload --control-net-cpu --image-no-control-net-model-offload"),
    (int, FIRST, "--image-width --width --image-max-width"),
    (str, FIRST, "--cache-expiration"),
    (_FLAG, FIRST, "--skip-cache"),
    (_FLAG, FIRST, "--skip-dns-cache"),
    (_FLAG, FIRST, "--skip-proxy"),
    (_FLAG, FIRST, "--skip-range-download-detect"),
    (_FLAG, FIRST, "--skip-tls-verify"),
)


class _Parser(argparse.ArgumentParser):
    """argparse, without its habit of ending the process.

    GPUStack's own has that habit where an abbreviation is ambiguous (Python 3.10 to 3.12.1) and for --help, in spite of
    exit_on_error=False, and the estimator does not catch SystemExit.
    """

    def error(self, message: str) -> t.NoReturn:
        raise argparse.ArgumentError(None, message)


class _Help(argparse.Action):
    def __call__(self, *_arguments: t.Any, **_keywords: t.Any) -> None:
        raise argparse.ArgumentError(self, "ends the process of the estimator after it printed its help")


def parser_of(gpustack_version: t.Optional[str]) -> t.Optional[argparse.ArgumentParser]:
    """The parser of a GPUStack version, None for those before 0.6.1. A version that is not known counts as the newest."""
    version = versions.parse(gpustack_version)
    if version is None or versions.series(gpustack_version) is None:
        return _parser(_THIRD)
    release = version.release + (0,)
    steps = [step for step in (FIRST, _SECOND, _THIRD) if step <= release]
    return _parser(steps[-1]) if steps else None


@functools.cache
def _parser(step: t.Tuple[int, int, int]) -> argparse.ArgumentParser:
    # 0.6.1 still takes abbreviations for the options they begin.
    parser = _Parser(exit_on_error=False, allow_abbrev=step == FIRST, add_help=False)
    parser.add_argument("-h", "--help", nargs=0, action=_Help)
    for kind, since, names in _OPTIONS:
        if since > step:
            continue
        if kind == _SWITCH:
            parser.add_argument(*names.split(), action=argparse.BooleanOptionalAction)
        elif kind == _FLAG:
            parser.add_argument(*names.split(), action="store_true")
        elif kind == _LIST:
            parser.add_argument(*names.split(), action="append")
        else:
            parser.add_argument(*names.split(), type=kind)
    return parser
