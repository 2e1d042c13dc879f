# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""From what a server answered, or did not, to the error that says it in one sentence."""

from __future__ import annotations

import dataclasses
import typing as t
import urllib.parse

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.server_answers import Redactor, Refusal
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server import errors
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.connection import Connection
from ansible_collections.metalfleet.gpustack.plugins.module_utils._server.transport import Answer, UnansweredError

# What proxies say while the server behind them restarts.
PASSING = (502, 503, 504)
_MOST_SHOWN = 4096
_KINDS: t.Mapping[int, t.Type[errors.ApiError]] = {
    401: errors.CredentialsError,
    403: errors.ForbiddenError,
    409: errors.ConflictError,
}


@dataclasses.dataclass(frozen=True)
class Asked:
    """A request. tried: how often and how long, as the end of a clause; empty where it was once."""

    connection: Connection
    method: str
    path: str
    tried: str
    redactor: Redactor

    @property
    def name(self) -> str:
        """The beginning of a sentence on it."""
        return f"{self.connection.server_url}: {self.method} {self.path.partition('?')[0]}"

    @property
    def writes(self) -> bool:
        return self.method != "GET"


def silent(asked: Asked, exc: UnansweredError) -> errors.UnreachableError:
    """No answer came."""
    if asked.writes and exc.sent:
        return errors.UnreachableError(
            f"{asked.name}: {exc}; whether the server did it is not known, so it is not asked again: run again when the server answers",
            unsure=True,
        )
    return errors.UnreachableError(
        f"{asked.name}: {exc}{asked.tried}; check that GPUStack's server runs, then server_url, the firewall and the proxy"
    )


def strange(asked: Asked, answer: Answer, text: str) -> errors.ServerError:
    """An answer came that GPUStack does not give."""
    shown = _shown(asked, answer, text)
    # What was refused was not done, but what a proxy lost may have been.
    unsure = asked.writes and (answer.status < 300 or answer.status >= 500)
    if answer.status in PASSING:
        return errors.UnreachableError(
            f"{asked.name}: status {answer.status} from something that stands before GPUStack's server{asked.tried}; "
            "check that the server runs",
            shown,
            unsure,
        )
    if 300 <= answer.status < 400:
        # A query may hold a ticket of single sign-on.
        target = asked.redactor.clean(urllib.parse.urljoin(f"{asked.connection.server_url}/", answer.location).partition("?")[0])
        what = f"it redirects to {target}, and credentials are not taken there; if GPUStack is there, write its address in server_url"
    else:
        what = (
            f"status {answer.status} with {_kind(answer, text)} instead of JSON; look for a proxy or another service in between, "
            "and at server_url"
        )
    return errors.StrangeAnswerError(f"{asked.name}: {what}", shown, unsure)


def refused(asked: Asked, answer: Answer, text: str, refusal: Refusal) -> errors.ApiError:
    """The server said no."""
    status = answer.status
    message, reason = asked.redactor.clean(refusal.message) or "refused", asked.redactor.clean(refusal.reason)
    kind = _KINDS.get(status, errors.ApiError)
    if status == 404 and reason == "NotFound":
        # Without it, it is said of the path, or by a proxy: no word on whether the object is there.
        kind = errors.NotFoundError
    if status == 401:
        sentence = f"{asked.connection.server_url}: {_who_is_refused(asked.connection)}"
    elif status == 403:
        sentence = f"{asked.name}: {message} (status 403); use a user who is an admin, or an API key of one"
    else:
        sentence = f"{asked.name}: {message} (status {status}{reason and ', ' + reason}){asked.tried}{_advice(status, reason)}"
    return kind(sentence, _shown(asked, answer, text), status, reason, message, asked.writes and status >= 500)


def _who_is_refused(connection: Connection) -> str:
    if connection.username is not None:
        return f"the server does not accept the password of user {connection.username}; check username and password"
    if connection.api_key is not None:
        return "the server does not accept the API key: it is wrong, has expired or was deleted; make another and give it as api_key"
    return "the server wants to know who asks; give username and password, or api_key"


def _advice(status: int, reason: str) -> str:
    if status >= 500:
        return "; look at the log of GPUStack's server"
    if status == 404 and not reason:
        return "; the server has no such path, so check server_url"
    return ""


def _kind(answer: Answer, text: str) -> str:
    begin = text.lstrip()[:1]
    if not begin:
        return "an empty answer"
    if "html" in answer.content_type.lower() or begin == "<":
        return "an HTML page"
    return "an answer that was cut" if begin in "{[" else "something"


def _shown(asked: Asked, answer: Answer, text: str) -> str:
    return asked.redactor.clean(f"HTTP {answer.status} {answer.content_type}\n{text}")[:_MOST_SHOWN]
