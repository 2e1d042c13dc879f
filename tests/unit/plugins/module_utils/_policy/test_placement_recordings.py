# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdicts on gpustack#1907 as the real schedulers of 0.6.0, 0.6.2 and 0.7.1 placed it."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import model_decision
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.model_need import exactly
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.placement import Report
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_instance import parse_instance
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_worker import parse_worker
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.working_set import GIB
from ansible_collections.metalfleet.gpustack.tests.unit.synthetic_fleet import Json, claim, instance, judge, model

NAME = "deepseek-v3-0324-Q8_0"
WEIGHTS = {NAME: 664 * GIB}
VERDICTS = {
    "0.6.0-a-default": "fits_only_by_mmap",
    "0.6.0-b-no-mmap": "fits_only_by_mmap",
    "0.6.0-b2-pinned-two": "estimate_apart",
    "0.6.2-c-default": "fits",
    "0.6.2-c3-no-cpu-offload": "fits",
    "0.6.2-d-mmap": "fits_only_by_mmap",
    "0.6.2-d2-mmap-eq": "estimate_apart",
    "0.7.1-e-default": "fits",
    "0.7.1-e2-mmap": "fits_only_by_mmap",
}


@pytest.fixture(scope="module")
def folder(captures_dir) -> pathlib.Path:
    return pathlib.Path(captures_dir, "gpustack-1907")


def worker(recorded: Json) -> Json:
    """A worker as the API says it; the recording holds its parts."""
    status = {"memory": recorded["memory"], "gpu_devices": recorded["gpus"], "rpc_servers": recorded["rpc_servers"]}
    fields = {field: recorded[field] for field in ("id", "name", "ip", "system_reserved")}
    return {**fields, "status": {**status, "kernel": {"name": "Darwin"}}}


def report(folder: pathlib.Path, case: str, weights_bytes: t.Optional[t.Mapping[str, int]] = None) -> Report:
    recorded = json.loads((folder / f"{case}.json").read_text("utf-8"))
    workers = [worker(one) for one in recorded["workers"]]
    (found,) = judge(workers, [recorded["model"]], recorded["instances"], recorded["version"], weights_bytes=weights_bytes)
    return found


def test_all_recordings_are_looked_at(folder):
    assert {path.stem for path in folder.glob("*.json")} == set(VERDICTS)


@pytest.mark.parametrize("weights_bytes", [None, WEIGHTS], ids=["weights unknown", "weights known"])
@pytest.mark.parametrize(("case", "verdict"), VERDICTS.items())
def test_the_verdict(folder, case: str, verdict: str, weights_bytes: t.Optional[t.Mapping[str, int]]):
    found = report(folder, case, weights_bytes)
    assert found.verdict == verdict
    assert len(found.findings) == (verdict != "fits")


@pytest.mark.parametrize("case", ["0.6.0-a-default", "0.6.0-b-no-mmap", "0.6.2-d-mmap", "0.7.1-e2-mmap"])
def test_with_its_weights_one_worker_would_need_as_much_as_two_claim_honestly(folder, case: str):
    (need,) = [part.need for placed in report(folder, case, WEIGHTS).case.placed for part in placed.parts]
    honest = sum(part.claim_bytes or 0 for placed in report(folder, "0.6.2-c-default").case.placed for part in placed.parts)
    assert abs(need.least_bytes - honest) < GIB
    assert need.most_bytes == need.least_bytes


@pytest.mark.parametrize("case", ["0.6.2-c-default", "0.6.2-c3-no-cpu-offload", "0.7.1-e-default"])
def test_parameters_that_somebody_edited_do_not_change_what_the_running_instance_needs(folder, case: str):
    recorded = json.loads((folder / f"{case}.json").read_text("utf-8"))
    edited = {**recorded["model"], "backend_parameters": ["--mmap"]}
    ids = [one["worker_id"] for one in recorded["instances"]]
    neighbour = model(99, backend_parameters=["--no-mmap"])
    ones = [*recorded["instances"], instance(99, ids[0], claim(0.1, 0.7))]
    workers = [worker(one) for one in recorded["workers"]]
    found, beside = judge(workers, [edited, neighbour], ones, recorded["version"], weights_bytes=WEIGHTS)
    assert [finding.finding for finding in found.findings] == ["estimate_apart"]
    assert "at its next restart" in found.findings[0].reason
    assert beside.findings == ()
    honest = report(folder, case, WEIGHTS).case.placed[0]
    assert [part.need for part in found.case.placed[0].parts] == [part.need for part in honest.parts]
    known = model_decision.Known(weights_bytes=664 * GIB)
    facts = model_decision.facts_of(edited, [placed.instance for placed in found.case.placed], recorded["version"], known)
    assert facts.need == exactly(sum(part.claim_bytes or 0 for part in honest.parts))


def test_a_pinned_model_of_060_is_not_refused_for_weights_that_half_its_claim_holds(folder):
    recorded = json.loads((folder / "0.6.0-b2-pinned-two.json").read_text("utf-8"))
    around = model_decision.surroundings("0.6.0", [parse_worker(worker(one)) for one in recorded["workers"]])
    instances = [parse_instance(one) for one in recorded["instances"]]
    assert model_decision.decide_for(recorded["model"], instances, around, model_decision.Known(weights_bytes=664 * GIB)).refusal == ""


def test_the_share_of_the_main_worker_is_what_the_next_version_claims(folder):
    (pinned, honest) = (report(folder, case, WEIGHTS).case.placed[0].parts[0] for case in ("0.6.0-b2-pinned-two", "0.6.2-c-default"))
    assert pinned.claim_bytes is not None
    assert pinned.claim_bytes < 20 * GIB
    assert pinned.need.least_bytes == pytest.approx(honest.claim_bytes, rel=0.02)
