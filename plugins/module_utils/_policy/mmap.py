# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Whether a model is to be mapped into memory: --no-mmap, --mmap, or the backend's default; see mmap_rows for the table.

A model may land on any worker that its selectors allow, so each is asked, and the most careful answer is the model's.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import versions as version_numbers
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.hardware import DARWIN
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_eligible import eligible
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_facts import ModelFacts, WorkerFacts
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_parameters import MMAP, NO_MMAP, is_without_no_mmap
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.mmap_rows import Case, Row, first_row, gib, reason_of

OVERRIDE = "override"
DISTRIBUTED = "distributed"
MODES: t.Dict[str, t.Optional[str]] = {"no-mmap": NO_MMAP, "default": None, "mmap": MMAP}

# Documented in plugins/doc_fragments/overrides.py.
OVERRIDES_OPTION: t.Dict[str, t.Any] = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "mmap": {"type": "str", "choices": list(MODES), "required": True},
        "model": {"type": "str"},
        "labels": {"type": "dict"},
        "reason": {"type": "str"},
    },
}

# The most careful first.
_CARE: t.Tuple[t.Optional[str], ...] = (NO_MMAP, None, MMAP)
# A leak of residency sets was mended here.
_FIRST_FOR_DISTRIBUTED = (0, 0, 139)
_CLAIM_TOO_SMALL = (
    "the estimator of GPUStack 0.6.0 assumes mmap whatever the flag says, so what the main worker claims stays too small: "
    "keep other models off it, or upgrade GPUStack"
)


@dataclasses.dataclass(frozen=True)
class Versions:
    """gpustack: the server's version. can_upgrade_llama_box: whether the fleet may get a newer llama-box than it has."""

    gpustack: t.Optional[str] = None
    can_upgrade_llama_box: bool = True


@dataclasses.dataclass(frozen=True)
class Override:
    """What a person decided for the model of a name, or for all models that have all of these labels."""

    flag: t.Optional[str]
    model: t.Optional[str] = None
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    reason: str = ""

    def covers(self, model: ModelFacts) -> bool:
        """Whether it is meant for a model."""
        if self.model is not None:
            return self.model == model.name
        return all(model.labels.get(key) == value for key, value in self.labels.items())

    def origin(self) -> str:
        """What it goes by, for people."""
        if self.model is not None:
            return f"model name {self.model}"
        return "labels " + ", ".join(f"{key}={value}" for key, value in sorted(self.labels.items()))

    @property
    def because(self) -> str:
        """The reason that its author gave, to end a sentence with; "" where there is none."""
        return f": {self.reason}" if self.reason else ""

    def words(self) -> str:
        """What it says, and why, for people."""
        mode = next(mode for mode, flag in MODES.items() if flag == self.flag)
        return f"the override by {self.origin()} says {mode}{self.because}"


def override_for(overrides: t.Iterable[Override], model: ModelFacts) -> t.Optional[Override]:
    """The override that counts for a model: the first that covers it; None where none does."""
    return next((override for override in overrides if override.covers(model)), None)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the table says of the model on one worker."""

    worker: str
    row: Row
    reason: str

    def as_dict(self) -> t.Dict[str, t.Any]:
        """As module return value."""
        return {
            "worker": self.worker,
            "flag": self.row.flag,
            "rule": self.row.name,
            "reason": self.reason,
            "confidence": self.row.confidence,
            "refused": self.row.refuses,
        }


@dataclasses.dataclass(frozen=True)
class Decision:
    """flag: --no-mmap, --mmap, or None for the backend's default; extra: parameters that go with it.

    rule: the row's name, or "override"; reason, evidence, confidence and advice are the row's also where it was overridden, but for
    the reason. worker: whose answer was the most careful; None where no worker is eligible. overridden: the name of the row that
    an override set aside, else "". risk: what mmap, or less care than the table asks for, can cost; else "".
    warnings: what else is wrong. refusal: why the model cannot be served as it is, no worker can hold it; else "".
    conflict: that its own backend_parameters ask for what the table calls an error; else "".
    """

    flag: t.Optional[str]
    rule: str
    reason: str
    evidence: t.Tuple[str, ...]
    confidence: str
    advice: t.Tuple[str, ...]
    worker: t.Optional[str]
    overridden: str = ""
    risk: str = ""
    warnings: t.Tuple[str, ...] = ()
    refusal: str = ""
    conflict: str = ""
    extra: t.Tuple[str, ...] = ()
    verdicts: t.Tuple[Verdict, ...] = ()

    def as_dict(self) -> t.Dict[str, t.Any]:
        """As module return value."""
        lists = {name: list(getattr(self, name)) for name in ("evidence", "advice", "warnings", "extra")}
        texts = {name: getattr(self, name) for name in ("flag", "rule", "reason", "confidence", "worker")}
        judgements = {name: getattr(self, name) for name in ("overridden", "risk", "refusal", "conflict")}
        return {**texts, **judgements, **lists, "verdicts": [verdict.as_dict() for verdict in self.verdicts]}


def decide(
    model: ModelFacts,
    workers: t.Iterable[WorkerFacts],
    versions: Versions,
    overrides: t.Sequence[Override] = (),
    strict: bool = False,
) -> Decision:
    """Decide for a model. strict: an override that is a risk is an error. Raises BadInputError."""
    candidates = eligible(model, workers)
    distributed = _is_distributed(model, candidates, versions)
    verdicts = tuple(_verdict(Case(model, worker, distributed, versions.gpustack, versions.can_upgrade_llama_box)) for worker in candidates)
    decision = _by_table(model, candidates, verdicts)
    decision = dataclasses.replace(
        decision,
        warnings=tuple(_translated(candidates) + (_of_versions(model, candidates, versions) if distributed else [])),
        refusal=_refusal(model, candidates),
        verdicts=verdicts,
    )
    override = override_for(overrides, model)
    if override is not None:
        return _overridden(model, decision, override, strict)
    if decision.rule == DISTRIBUTED and model.wants_mmap:
        problem = f"the model {model.name} is distributed, and its backend_parameters ask for mmap: take --mmap out (gpustack#1907)"
        return dataclasses.replace(decision, conflict=problem)
    return decision


def _is_distributed(model: ModelFacts, candidates: t.Sequence[WorkerFacts], versions: Versions) -> t.Optional[bool]:
    """Whether the model runs on several workers at once; None where GPUStack will choose and may choose either."""
    if model.distributed is not None:
        return model.distributed
    if not model.may_distribute or len(candidates) < 2:
        return False
    # Selected GPUs of several workers are all used, even by an estimate for which one is enough (measured on 0.6.0).
    if model.gpu_ids:
        return True
    # By itself 0.6.0 puts on one worker what fits on none (gpustack#1907).
    if is_without_no_mmap(versions.gpustack):
        return None
    return True if all(model.need.exceeds(worker.usable_bytes()) for worker in candidates) else None


def _verdict(case: Case) -> Verdict:
    row = first_row(case)
    return Verdict(case.worker.name, row, reason_of(row, case))


def _by_table(model: ModelFacts, candidates: t.Sequence[WorkerFacts], verdicts: t.Sequence[Verdict]) -> Decision:
    if not candidates:
        row = first_row(Case(model, WorkerFacts("")))
        return _decision(row, f"there is no worker that the model {model.name} may be put on", None)
    careful = min(verdicts, key=lambda verdict: (_CARE.index(verdict.row.flag), verdict.row.number, verdict.worker))
    return _decision(careful.row, careful.reason, careful.worker)


def _decision(row: Row, reason: str, worker: t.Optional[str]) -> Decision:
    return Decision(
        flag=row.flag,
        rule=row.name,
        reason=reason,
        evidence=row.evidence,
        confidence=row.confidence,
        advice=row.advice,
        worker=worker,
        risk=row.risk,
        extra=row.extra,
    )


def _overridden(model: ModelFacts, decision: Decision, override: Override, strict: bool) -> Decision:
    reason = f"overridden by {override.origin()}{override.because}"
    risk = ""
    if override.flag == MMAP or _CARE.index(override.flag) > _CARE.index(decision.flag):
        risk = f"{_said(override.flag)} against the rule {decision.rule}, which says {_said(decision.flag)}: {decision.reason}"
    if risk and override.reason:
        risk = f"{risk} (overridden for this reason: {override.reason})"
    if risk and strict:
        raise BadInputError(f"strict: the override by {override.origin()} for the model {model.name} is a risk, {risk}; take it out")
    return dataclasses.replace(decision, flag=override.flag, rule=OVERRIDE, reason=reason, overridden=decision.rule, risk=risk, extra=())


def _said(flag: t.Optional[str]) -> str:
    return flag or "the backend's default"


def _translated(candidates: t.Sequence[WorkerFacts]) -> t.List[str]:
    return [
        f"{worker.name} runs under Rosetta, wholly or in part: it is decided as if it did not; install arm64 builds of Python and GPUStack"
        for worker in candidates
        if worker.os == DARWIN and worker.is_translated
    ]


def _of_versions(model: ModelFacts, candidates: t.Sequence[WorkerFacts], versions: Versions) -> t.List[str]:
    """What is wrong with the versions behind a distributed model. A backend_version moves its main server only."""
    found = {worker.llama_box_version for worker in candidates} | {model.backend_version}
    known = {text: version for text in found if text is not None for version in [version_numbers.parse(text)] if version is not None}
    names = sorted(known, key=lambda text: known[text].key())
    warnings = []
    if len({version.key() for version in known.values()}) > 1:
        warnings.append(f"the workers of a distributed model have different llama-boxes, which crash (gpustack#756): {', '.join(names)}")
    old = [text for text in names if known[text].release < _FIRST_FOR_DISTRIBUTED]
    if old:
        warnings.append(f"a distributed model needs llama-box v0.0.139 or newer, better v0.0.144 or v0.0.162: {', '.join(old)}")
    if is_without_no_mmap(versions.gpustack):
        warnings.append(_CLAIM_TOO_SMALL)
    return warnings


def _refusal(model: ModelFacts, candidates: t.Sequence[WorkerFacts]) -> str:
    if not candidates:
        return f"no worker has what worker_selector and gpu_selector of the model {model.name} ask for: change them or add such a worker"
    usable = [size for size in (worker.usable_bytes() for worker in candidates) if size is not None]
    # Of what is no Mac, RAM, VRAM and disk may all hold a part.
    if len(usable) < len(candidates):
        return ""
    together = model.distributed is True or model.may_distribute
    limit_bytes = sum(usable) if together else max(usable)
    if not model.need.exceeds(limit_bytes):
        return ""
    where = f"the {len(usable)} workers that it may be put on have together" if together else "the largest worker that it may be put on has"
    return (
        f"the model {model.name} needs {gib(model.need.least_bytes)} or more, and {where} {gib(limit_bytes)}: "
        "add memory or workers, or take a smaller quantisation"
    )


def overrides_from(entries: t.Any) -> t.List[Override]:
    """The overrides of a play: a list of {mmap: no-mmap | default | mmap, model: name or labels: {…}, reason: text}."""
    if not isinstance(entries, (list, tuple)):
        raise BadInputError("overrides of the mmap policy are a list")
    return [_override(f"override {position} of the mmap policy", entry) for position, entry in enumerate(entries, 1)]


def _override(which: str, entry: t.Any) -> Override:
    if not isinstance(entry, dict):
        raise BadInputError(f"{which} is no dictionary: write mmap, and model or labels")
    unknown = sorted(str(key) for key in set(entry) - {"mmap", "model", "labels", "reason"})
    if unknown:
        raise BadInputError(f"{which} has unknown keys: {', '.join(unknown)}; it may have mmap, model, labels and reason")
    mode, name, labels = entry.get("mmap"), entry.get("model"), entry.get("labels")
    if not isinstance(mode, str) or mode not in MODES:
        raise BadInputError(f"{which}: mmap must be one of {', '.join(MODES)}")
    by_name = isinstance(name, str) and bool(name)
    chosen = {str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {}
    if by_name == bool(chosen):
        raise BadInputError(f"{which} needs either the name of a model or labels")
    return Override(flag=MODES[mode], model=name if by_name else None, labels=chosen, reason=str(entry.get("reason") or ""))
