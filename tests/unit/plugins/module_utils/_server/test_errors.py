# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.errors import (
    ApiError,
    ConflictError,
    CredentialsError,
    ForbiddenError,
    NotFoundError,
    ServerError,
    StrangeAnswerError,
    UnreachableError,
    UnsupportedServerError,
    failure,
)


def test_all_are_failures_of_the_collection_that_a_module_reports():
    for kind in (UnreachableError, StrangeAnswerError, UnsupportedServerError, ApiError):
        assert issubclass(kind, ServerError)
    for kind in (CredentialsError, ForbiddenError, NotFoundError, ConflictError):
        assert issubclass(kind, ApiError)
    assert issubclass(ServerError, GpustackError)


def test_an_error_knows_what_was_said():
    error = ServerError("no")
    assert (str(error), error.answer, error.unsure) == ("no", "", False)
    refused = ApiError("no", "HTTP 500", 500, "R", "m", unsure=True)
    assert (str(refused), refused.answer, refused.status, refused.reason, refused.server_message) == ("no", "HTTP 500", 500, "R", "m")
    assert refused.unsure is True


@pytest.mark.parametrize(("verbosity", "shown"), [(0, {}), (2, {}), (3, {"api_answer": "HTTP 404"}), (4, {"api_answer": "HTTP 404"})])
def test_the_answer_is_for_those_who_ask_for_it(verbosity, shown):
    refused = NotFoundError("no", "HTTP 404", 404, "NotFound", "Model not found")
    said = {"status": 404, "reason": "NotFound", "message": "Model not found"}
    assert failure(refused, verbosity) == {"msg": "no", "api_error": said, **shown}
    assert failure(StrangeAnswerError("no", "HTTP 404"), verbosity) == {"msg": "no", **shown}


def test_there_may_be_no_answer_to_show():
    assert failure(UnreachableError("no"), 3) == {"msg": "no"}
    assert failure(BadInputError("no"), 3) == {"msg": "no"}
