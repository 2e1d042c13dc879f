# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.
"""Asks the models of a server, some at a time, and tells what each of them answered."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof import result_of
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_listen import ANSWERED, REFUSED, Listener, Run, listener
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_plan import (
    DOCUMENTS,
    ROUTES,
    Candidate,
    body_of,
    candidates,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.proof_request import Limits, ProofRequest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import api
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.client import Client
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.streaming import End, Head, Stream
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Answer, UnansweredError

# Whoever waits has given up before the socket does, and says so in words that say more.
_SPARE_SECONDS = 5.0


def prove(client: Client, request: ProofRequest, check_mode: bool) -> t.List[t.Dict[str, t.Any]]:
    """What came of each model. Raises ServerError where the lists cannot be read; what a model does not answer is its result."""
    fleet = api.read_fleet(client)
    found = candidates(request, fleet.models, fleet.instances, check_mode)
    # Ansible's Request installs an opener for the whole process at each call. Those of one client are all alike.
    with concurrent.futures.ThreadPoolExecutor(request.concurrency) as pool:
        return list(pool.map(lambda candidate: _result(client, request, candidate), found))


def _result(client: Client, request: ProofRequest, candidate: Candidate) -> t.Dict[str, t.Any]:
    runs: t.List[Run] = []
    while not candidate.status and len(runs) < candidate.requests and all(run.status == ANSWERED for run in runs):
        # Engines keep what they computed for the beginning of a prompt, so that no two of them begin alike.
        prompt = f"[{os.urandom(4).hex()}] {request.prompt}"
        runs.append(ask(client, candidate, body_of(candidate, prompt, request.max_tokens), request.limits))
    return result_of(candidate, runs, client.clean)


def ask(client: Client, candidate: Candidate, body: t.Mapping[str, t.Any], limits: Limits) -> Run:
    """One question to one model."""
    path = ROUTES[str(candidate.category)]
    heard = listener(str(candidate.category), limits, len(DOCUMENTS))
    stream = client.stream(path, body, max(limits.first_token_seconds, limits.stall_seconds) + _SPARE_SECONDS)
    try:
        run, head = _listen(stream, heard)
    finally:
        stream.close()
    if head is not None and (run.strange or not 200 <= head.status < 300):
        problem = client.refusal(path, body, dataclasses.replace(head, body=heard.heard))
        return Run(REFUSED, str(problem), run.seconds)
    return run


def _listen(stream: Stream, heard: Listener) -> t.Tuple[Run, t.Optional[Answer]]:
    head: t.Optional[Answer] = None
    while True:
        news = stream.wait(stream.begin + heard.deadline)
        seconds = heard.deadline if news is None else news.at - stream.begin
        # Also where something comes all the time, and no token is in it.
        if news is None or (seconds > heard.deadline and not isinstance(news, End)):
            return heard.gave_up(seconds), head
        if isinstance(news, Head):
            head = news.answer
        elif isinstance(news, End):
            return _ended(heard, seconds, news), head
        else:
            heard.feed(seconds, news.data)
            if heard.enough:
                return heard.ended(seconds, ""), head


def _ended(heard: Listener, seconds: float, end: End) -> Run:
    error = end.error
    if error is None:
        return heard.ended(seconds, "")
    if not isinstance(error, UnansweredError):
        return Run(REFUSED, str(error), seconds)
    if not error.sent:
        return Run(REFUSED, f"{error}; check that GPUStack's server runs", seconds)
    return heard.ended(seconds, str(error))
