# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""What GPUStack's server says when it refuses something, in its three shapes, and how to keep secrets out of what is shown."""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.secret_forms import forms

# As Ansible writes it.
HIDDEN = "********"
_LONGEST_MESSAGE = 500

# Parts that could be long have a limit where many beginnings could each be followed to the end of the text.
# API keys (routes/api_keys.py), the tokens of sessions (security.py), what follows the scheme in a header, and the environment
# of a model, in JSON or as Python prints it, also where it is cut off.
_SECRETS = re.compile(
    r"""gpustack_[0-9A-Za-z]{8,}_[0-9A-Za-z]{8,}
    |\beyJ[\w-]{1,500}\.[\w-]+\.[\w-]+
    |(?<=\bBasic\ )[\w+/]{4,}=*
    |(?<=\bBearer\ )[\w.-]{8,}
    |(?<=[\"']env[\"']:)\s*\{(?:"(?:[^"\\]|\\.|\\\Z)*(?:"|\Z)|'(?:[^'\\]|\\.|\\\Z)*(?:'|\Z)|[^"'}])*""",
    re.VERBOSE | re.DOTALL,
)
# Pydantic's errors as Python prints them (api/exceptions.py, validation_exception_handler). Their 'input' is what was sent.
_VALIDATION = re.compile(r"'loc': \(([^)]{0,500})\), 'msg': ('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")")


@dataclasses.dataclass(frozen=True)
class Refusal:
    """What an answer says. reason: as NotFound; empty where the web framework or a proxy says it, and not GPUStack."""

    reason: str
    message: str


class Redactor:
    """Takes secrets out of texts that others wrote."""

    def __init__(self, secrets: t.Iterable[str] = ()) -> None:
        found = {form for secret in secrets for form in forms(secret)}
        # The longest first: one secret may be the beginning of another.
        self._forms = sorted(found, key=lambda form: (-len(form), form))

    def clean(self, text: str) -> str:
        """The text without secrets."""
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return _SECRETS.sub(HIDDEN, text)


def parse_refusal(text: str) -> t.Optional[Refusal]:
    """What the body of an answer says, None where it is in none of the server's shapes. Never raises.

    {"code", "reason", "message"}; {"error": {"code", "type", "message"}} for OpenAI's routes, and for all others after the
    first error there, since the server changes the class of the exception for good (api/exceptions.py); {"detail"} of the
    framework.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    if isinstance(data.get("error"), dict):
        return _refusal(data["error"], "type")
    if "detail" in data:
        detail = data["detail"]
        return Refusal("", _line(detail if isinstance(detail, str) else json.dumps(detail)))
    return _refusal(data, "reason")


def secrets_in(body: t.Any) -> t.Tuple[str, ...]:
    """Values of the environment in the body of a request: the server repeats the body when it refuses it.

    Short ones are left: "1" is no secret, and without it no message could be read.
    """
    env = body.get("env") if isinstance(body, dict) else None
    return tuple(value for value in map(str, env.values()) if len(value) >= 8) if isinstance(env, dict) else ()


def _refusal(data: t.Mapping[str, t.Any], reason_key: str) -> t.Optional[Refusal]:
    message, reason = data.get("message"), data.get(reason_key)
    if not isinstance(message, str):
        return None
    return Refusal(_line(reason) if isinstance(reason, str) else "", _line(_without_input(message)))


def _without_input(message: str) -> str:
    """The errors of validation as `body.source: Field required`; another message as it is."""
    found = _VALIDATION.findall(message)
    return "; ".join(f"{re.sub(r'[^0-9A-Za-z_.-]+', '.', place).strip('.')}: {words[1:-1]}" for place, words in found) or message


def _line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_MESSAGE else line[: _LONGEST_MESSAGE - 1] + "…"
