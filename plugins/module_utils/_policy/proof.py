# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""From what single questions came to, to the verdict on a model and on all of them."""

from __future__ import annotations

import statistics
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_listen import ANSWERED, Run
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_plan import SKIPPED, Candidate

TOO_SLOW = "too_slow"
_GOOD = (ANSWERED, SKIPPED)


def result_of(candidate: Candidate, runs: t.Sequence[Run], clean: t.Callable[[str], str]) -> t.Dict[str, t.Any]:
    """What is returned of a model. runs: none where it was not asked. clean: takes secrets out of what others wrote."""
    worst = next((run for run in runs if run.status != ANSWERED), runs[-1] if runs else None)
    first, rate = _middle(runs, "first_token_seconds"), _middle(runs, "tokens_per_second")
    if worst is None:
        status, reason = candidate.status, candidate.reason
    elif worst.status != ANSWERED:
        status, reason = worst.status, worst.reason
    else:
        slow = _slow(candidate, first, rate)
        status, reason = (TOO_SLOW, slow) if slow else (ANSWERED, "; ".join(filter(None, (worst.reason, _replicas(candidate)))))
    return {
        "name": candidate.name,
        "category": candidate.category,
        "status": status,
        "reason": clean(reason),
        "workers": list(candidate.workers),
        "replicas": candidate.replicas,
        "running_instances": candidate.running,
        "requests": len(runs),
        "first_token_seconds": first,
        "seconds": _middle(runs, "seconds"),
        "tokens": _tokens(runs),
        "token_source": worst.token_source if worst is not None else None,
        "tokens_per_second": rate,
        "engine_tokens_per_second": _middle(runs, "engine_tokens_per_second"),
        "answer_excerpt": clean(worst.excerpt) if worst is not None else "",
    }


def failing(results: t.Sequence[t.Mapping[str, t.Any]]) -> t.List[t.Mapping[str, t.Any]]:
    """Those that do not answer as they should."""
    return [result for result in results if result["status"] not in _GOOD]


def sentence(results: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """What a person is told of all of them."""
    bad = failing(results)
    if bad:
        told = "; ".join(f"{result['name']}: {str(result['status']).replace('_', ' ')}, {result['reason']}" for result in bad)
        does = "does not answer as it should" if len(bad) == 1 else "do not answer as they should"
        return f"{len(bad)} of {_models(len(results))} {does}: {told}"
    answered = sum(result["status"] == ANSWERED for result in results)
    skipped = len(results) - answered
    return f"{answered} of {_models(len(results))} answered" + (f", {skipped} skipped" if skipped else "")


def _slow(candidate: Candidate, first: t.Optional[float], rate: t.Optional[float]) -> str:
    least, longest = candidate.min_tokens_per_second, candidate.max_first_token_seconds
    if rate is not None and rate < least:
        return f"{rate:.3g} tokens per second, and at least {least:g} are wanted"
    if first is not None and longest is not None and first > longest:
        return f"{first:.3g} seconds to the first token, and at most {longest:g} are wanted"
    return ""


def _replicas(candidate: Candidate) -> str:
    if candidate.replicas is None or candidate.running >= candidate.replicas:
        return ""
    return f"{candidate.running} of {candidate.replicas} instances run"


def _middle(runs: t.Sequence[Run], field: str) -> t.Optional[float]:
    values = [getattr(run, field) for run in runs if getattr(run, field) is not None]
    return round(statistics.median(values), 4) if values else None


def _tokens(runs: t.Sequence[Run]) -> t.Optional[int]:
    counted = [run.tokens for run in runs if run.tokens is not None]
    return statistics.median_low(counted) if counted else None


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count} models"
