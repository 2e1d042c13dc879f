# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Where GPUStack's server is, and who we are to it: the options that all modules share which talk to it."""

from __future__ import annotations

import base64
import dataclasses
import os
import ssl
import typing as t
import urllib.parse

from ansible.module_utils.basic import env_fallback
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import urls
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

# Documented in plugins/doc_fragments/server.py.
OPTIONS: t.Dict[str, t.Dict[str, t.Any]] = {
    "server_url": {"type": "str", "required": True, "fallback": (env_fallback, ["GPUSTACK_SERVER_URL"])},
    "username": {"type": "str"},
    "password": {"type": "str", "no_log": True},
    "api_key": {"type": "str", "no_log": True, "fallback": (env_fallback, ["GPUSTACK_API_KEY"])},
    "ca_path": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "use_proxy": {"type": "bool", "default": True},
    "timeout_seconds": {"type": "int", "default": 30},
    "retries": {"type": "int", "default": 5},
}
REQUIRED_TOGETHER = [("username", "password")]


@dataclasses.dataclass(frozen=True)
class Connection:
    """Where the server is, and how to talk to it.

    server_url: what all paths begin with, without a slash at its end. username and password, or api_key, or nothing.
    ca_path: certificates to trust instead of the system's. timeout_seconds: for one answer. retries: after the first attempt,
    of requests that only read.
    """

    server_url: str
    username: t.Optional[str] = None
    password: t.Optional[str] = dataclasses.field(default=None, repr=False)
    api_key: t.Optional[str] = dataclasses.field(default=None, repr=False)
    ca_path: t.Optional[str] = None
    validate_certs: bool = True
    use_proxy: bool = True
    timeout_seconds: float = 30.0
    retries: int = 5

    def authorization(self) -> t.Optional[str]:
        """The value of the header."""
        pair = self._pair()
        if pair is not None:
            return f"Basic {pair}"
        return f"Bearer {self.api_key}" if self.api_key else None

    def secrets(self) -> t.Tuple[str, ...]:
        """What no message may hold."""
        return tuple(secret for secret in (self.password, self.api_key, self._pair()) if secret)

    def _pair(self) -> t.Optional[str]:
        if self.username is None:
            return None
        return base64.b64encode(f"{self.username}:{self.password or ''}".encode()).decode()


def connection(params: t.Mapping[str, t.Any]) -> Connection:
    """The connection that the options of a module describe. Raises BadInputError."""
    for name, least in (("timeout_seconds", 1), ("retries", 0)):
        if params[name] < least:
            raise BadInputError(f"{name}: {params[name]} is too small; the least is {least}")
    api_key = params["api_key"] or None
    username = params["username"] or None
    if username is not None and api_key is not None:
        # A user given to one task outranks the key that the environment has for all; Ansible does not say which one it took.
        if api_key != os.environ.get("GPUSTACK_API_KEY"):
            raise BadInputError("username and api_key are both given, and the server takes one of them; leave the other out")
        api_key = None
    if username is not None and ":" in username:
        raise BadInputError("username: a colon cannot be in it, since Basic authentication ends it there; use api_key")
    if username is not None and not f"{username}{params['password']}".isascii():
        raise BadInputError(
            "username, password: GPUStack takes only ASCII in Basic authentication; change the password, or make an API key and use api_key"
        )
    # http.client refuses such a header with a message that shows it.
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise BadInputError("api_key: a character is in it that no API key has, perhaps a line feed at its end; copy the key again")
    return Connection(
        server_url=_server_url(params["server_url"]),
        username=username,
        password=params["password"] if username is not None else None,
        api_key=api_key,
        ca_path=_ca_path(params["ca_path"]),
        validate_certs=params["validate_certs"],
        use_proxy=params["use_proxy"],
        timeout_seconds=params["timeout_seconds"],
        retries=params["retries"],
    )


def _server_url(text: str) -> str:
    problem = urls.problem_of(text)
    if not problem and ("?" in text or "#" in text):
        problem = "holds a query or a fragment, after which no path can follow"
    if not problem and urllib.parse.urlsplit(text).path.rstrip("/").endswith(("/v1", "/v1-openai")):
        problem = "ends in the path of one API; leave that out"
    if problem:
        raise BadInputError(f"server_url: {urls.shown(text)} {problem}; write it like https://gpustack.example.com")
    return text.rstrip("/")


def _ca_path(path: t.Optional[str]) -> t.Optional[str]:
    if path is None:
        return None
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError as exc:
        raise BadInputError(f"ca_path: {path} is no file of certificates in PEM; put one there") from exc
    except OSError as exc:
        raise BadInputError(f"ca_path: {path} cannot be read where this task runs ({exc.strerror}); put the certificates there") from exc
    return path
