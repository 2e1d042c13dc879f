# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""URLs as they may be used and as they may be shown: never with a password or a signature in them."""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError

# http.client refuses these anyway (CVE-2019-9740), and a line feed would make two lines of one in a log.
_UNSAFE = re.compile(r"[^\x21-\x7e]")
# Up to the last @, as a password may have more of them, and slashes that nobody has encoded.
_USER = re.compile(r"(?<=://).+@", re.DOTALL)
_QUERY = re.compile(r"(?<=\?).+", re.DOTALL)
_PORTS = {"http": 80, "https": 443}


def problem_of(url: t.Any) -> str:
    """What is wrong with a URL to download from, as the end of a sentence that begins with it; empty where nothing is."""
    if not isinstance(url, str):
        return "is not text"
    if _UNSAFE.search(url):
        return "holds a character that no URL may have"
    try:
        parts = urllib.parse.urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in _PORTS:
        return "does not begin with https:// or http://"
    if not host:
        return "names no host"
    if "@" in parts.netloc:
        return "holds a user or a password, which have options of their own"
    return ""


def base_url(text: str, where: str) -> str:
    """The URL below which releases are looked for, without a slash at its end. where: the option, for the message."""
    problem = problem_of(text)
    if not problem and ("?" in text or "#" in text):
        problem = "holds a query or a fragment, after which no path can follow"
    if problem:
        raise BadInputError(f"{where}: {shown(text)} {problem}; write it like https://mirror.example.com/github")
    return text.rstrip("/")


def shown(url: str) -> str:
    """The URL without user, password, query and fragment: signed links of object stores carry secrets in their query."""
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return "a malformed URL"
    if ":" in parts.netloc.rpartition("]")[2] and "@" not in parts.netloc and "@" in url:
        # The slash, question mark or hash of a password that was not encoded ends the host, so that the rest of it seems to be a path.
        return "a malformed URL"
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def secrets_in(text: str) -> t.Tuple[str, ...]:
    """What of a text must not be shown if it is a URL: user and password, and the query."""
    if "://" not in text:
        return ()
    return tuple(found.group() for pattern in (_USER, _QUERY) for found in [pattern.search(text)] if found is not None)


def origin(url: str) -> t.Tuple[str, str, t.Optional[int]]:
    """Scheme, host and port: what has to be the same for credentials to go along."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
