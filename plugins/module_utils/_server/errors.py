# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What can go wrong with GPUStack's server. Each message is one sentence that says what to do."""

from __future__ import annotations

import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import GpustackError


class ServerError(GpustackError):
    """The server did not do what it should.

    answer: what it said, without secrets, in at most a few KiB; empty where it said nothing. unsure: it was asked to change
    something, and whether it did is not known.
    """

    def __init__(self, message: str, answer: str = "", unsure: bool = False) -> None:
        super().__init__(message)
        self.answer = answer
        self.unsure = unsure


class UnreachableError(ServerError):
    """Nothing answers, or not in time, or its certificate is not accepted."""


class StrangeAnswerError(ServerError):
    """What answers is not GPUStack, or something between us and it answers in its place."""


class UnsupportedServerError(ServerError):
    """It is a GPUStack that this collection is not made for."""


class ApiError(ServerError):
    """The server refused. status: that of HTTP. reason and server_message: its own words, without secrets."""

    def __init__(self, message: str, answer: str, status: int, reason: str, server_message: str, unsure: bool = False) -> None:
        super().__init__(message, answer, unsure)
        self.status = status
        self.reason = reason
        self.server_message = server_message


class CredentialsError(ApiError):
    """It does not know who we are (401)."""


class ForbiddenError(ApiError):
    """It knows who we are, and we may not (403)."""


class NotFoundError(ApiError):
    """The object is not there, and GPUStack itself says so (404)."""


class ConflictError(ApiError):
    """There is one of that name already, or something needs it (409)."""


def failure(error: GpustackError, verbosity: int) -> t.Dict[str, t.Any]:
    """The arguments of fail_json: the sentence, what the server said, and from -vvv on its answer as it came, redacted."""
    words: t.Dict[str, t.Any] = {"msg": str(error)}
    if isinstance(error, ApiError):
        words["api_error"] = {"status": error.status, "reason": error.reason, "message": error.server_message}
    if isinstance(error, ServerError) and error.answer and verbosity >= 3:
        words["api_answer"] = error.answer
    return words
