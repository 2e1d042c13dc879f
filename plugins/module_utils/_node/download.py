# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module_utils is PRIVATE to metalfleet.gpustack: it may change in any release.

"""Fetching a file over HTTP to this host: with a limit for everything, going on after a cut, and secrets only to whom they are for."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import posixpath
import re
import ssl
import string
import typing as t
import urllib.error
import urllib.parse

from ansible.module_utils.urls import open_url
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.disk_space import check_room
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import certificates, http_answers, urls
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError, OverdueError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import LARGEST_ARCHIVE_BYTES, TAMPERED

_PIECE_BYTES = 256 * 1024
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 10
# No file is so large that its size has more digits, and int() refuses thousands of them.
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]{1,18}|\*)\Z")
_LENGTH = re.compile(r"[0-9]{1,18}")


@dataclasses.dataclass(frozen=True)
class DownloadOptions:
    """How to download.

    username and password, or token: sent to the first host only. ca_path: the certificates to trust instead of the system's.
    timeout_seconds: for connecting, and for each silence. deadline_seconds: for the whole file, pauses included.
    retries: attempts in a row that bring nothing, after the first.
    """

    username: t.Optional[str] = None
    password: t.Optional[str] = dataclasses.field(default=None, repr=False)
    token: t.Optional[str] = dataclasses.field(default=None, repr=False)
    ca_path: t.Optional[str] = None
    use_proxy: bool = True
    timeout_seconds: float = 30.0
    deadline_seconds: float = 1800.0
    retries: int = 4

    def authorization(self) -> t.Optional[str]:
        """The value of the header."""
        if self.token:
            return f"Bearer {self.token}"
        if self.username:
            pair = f"{self.username}:{self.password or ''}"
            return f"Basic {base64.b64encode(pair.encode()).decode()}"
        return None


class NotThereError(HostError):
    """There is no such file. what: that, without the advice."""

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"{what}; {advice}")
        self.what = what
        self.advice = advice


class _InterruptedError(Exception):
    """An attempt failed in a way that may pass. pause_seconds: what the server asks us to wait at least."""

    def __init__(self, reason: str, pause_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_seconds = pause_seconds


def download(host: Host, url: str, path: str, size_bytes: t.Optional[int], options: DownloadOptions) -> bool:
    """Fetch a file to the path, 0600; what is there already is taken for its beginning where the size is known.

    size_bytes: what it has to have, None where that is not known. Returns whether it went on from such a beginning. Raises
    BadInputError, NotThereError or HostError; what came until then stays at the path.
    """
    return _Download(host, url, path, size_bytes, options).run()


class _Download:
    def __init__(self, host: Host, url: str, path: str, size_bytes: t.Optional[int], options: DownloadOptions) -> None:
        self._host = host
        self._url = url
        self._path = path
        self._size_bytes = size_bytes
        self._options = options
        self._shown = urls.shown(url)
        self._end = host.monotonic() + options.deadline_seconds

    def run(self) -> bool:
        problem = urls.problem_of(self._url)
        if problem:
            raise BadInputError(f"{self._shown} {problem}; correct the base URL or the lock")
        self._check_certificates()
        have = self._have()
        if have and (self._size_bytes is None or have > self._size_bytes):
            self._host.remove(self._path)
            have = 0
        if self._size_bytes is not None:
            self._check_room(self._size_bytes - have)
        resumed = have > 0
        if have != self._size_bytes:
            self._persevere(have)
        return resumed

    def _persevere(self, have: int) -> None:
        failures, furthest = 0, have
        while True:
            try:
                # For the lines before the content as well, which http.client waits for as long as each of their bytes comes in time.
                with self._host.limited(self._end - self._host.monotonic()):
                    self._attempt(have)
                return
            except OverdueError as exc:
                raise self._too_late() from exc
            except _InterruptedError as exc:
                have = self._have()
                # A connection that is cut again and again gets there in the end, as long as each brings something.
                failures = 1 if have > furthest else failures + 1
                furthest = max(furthest, have)
                if failures > self._options.retries:
                    raise HostError(f"{self._shown} could not be downloaded: {exc}; {self._advice()}") from exc
                pause_seconds = max(exc.pause_seconds, min(2.0 ** (failures - 1), http_answers.LONGEST_PAUSE_SECONDS))
                if self._host.monotonic() + pause_seconds > self._end:
                    raise self._too_late(f": {exc}") from exc
                self._host.pause(pause_seconds)

    def _attempt(self, have: int) -> None:
        with contextlib.closing(self._open(have)) as response:
            start, total = self._judge(response, have)
            if start == 0:
                self._host.remove(self._path)
            self._host.append(self._path, self._pieces(response, start), 0o600)
        have = self._have()
        if total is not None and have < total:
            raise _InterruptedError(f"the connection was cut after {have} of {total} bytes")

    def _pieces(self, response: http.client.HTTPResponse, have: int) -> t.Iterator[bytes]:
        limit_bytes = LARGEST_ARCHIVE_BYTES if self._size_bytes is None else self._size_bytes
        while True:
            if self._host.monotonic() > self._end:
                raise self._too_late()
            try:
                # read() would wait for all of its bytes, with no look at the clock in between.
                piece = response.read1(_PIECE_BYTES)
            except (OSError, http.client.HTTPException) as exc:
                raise _InterruptedError(f"the connection failed after {have} bytes ({_words(exc)})") from exc
            if not piece:
                return
            have += len(piece)
            if have > limit_bytes:
                self._host.remove(self._path)
                what = (
                    "which no archive of llama-box has" if self._size_bytes is None else f"so it is not the archive of the lock: {TAMPERED}"
                )
                raise HostError(f"{self._shown} has more than {limit_bytes} bytes there, {what}")
            yield piece

    def _open(self, have: int) -> http.client.HTTPResponse:
        """Ask for the file from this byte on, following redirects ourselves: urllib would take Authorization along."""
        url = self._url
        for _hop in range(_MOST_REDIRECTS + 1):
            try:
                return self._ask(url, have)
            except urllib.error.HTTPError as exc:
                with exc:
                    if exc.code not in _REDIRECTS:
                        raise self._refusal(exc, have) from exc
                    url = self._redirected(url, exc.headers.get("Location"))
            except urllib.error.URLError as exc:
                if isinstance(exc.reason, ssl.SSLCertVerificationError):
                    why = certificates.refusal(exc.reason.verify_code, exc.reason.verify_message)
                    raise HostError(f"{urls.shown(url)}: {why}") from exc
                raise _InterruptedError(f"no connection ({_words(exc.reason)})") from exc
            except (OSError, http.client.HTTPException) as exc:
                raise _InterruptedError(f"no answer ({_words(exc)})") from exc
            except ValueError as exc:
                # A host's name that IDNA cannot hold, or a redirect that urllib cannot take apart.
                raise BadInputError(f"{self._shown} cannot be asked for ({_words(exc)}); correct the base URL or the mirror") from exc
        raise HostError(f"{self._shown} redirects more than {_MOST_REDIRECTS} times; correct the mirror")

    def _ask(self, url: str, have: int) -> http.client.HTTPResponse:
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        authorization = self._options.authorization()
        if authorization and urls.origin(url) == urls.origin(self._url):
            headers["Authorization"] = authorization
        response: http.client.HTTPResponse = open_url(
            url,
            method="GET",
            headers=headers,
            http_agent="metalfleet.gpustack",
            use_proxy=self._options.use_proxy,
            timeout=self._options.timeout_seconds,
            ca_path=self._options.ca_path,
            follow_redirects="none",
            decompress=False,
            use_netrc=False,
        )
        return response

    def _redirected(self, url: str, location: t.Optional[str]) -> str:
        # As urllib does it: servers put bytes into the header that no URL may have.
        target = urllib.parse.urljoin(url, urllib.parse.quote(location or "", encoding="iso-8859-1", safe=string.punctuation))
        problem = urls.problem_of(target)
        if not problem and urls.origin(url)[0] == "https" != urls.origin(target)[0]:
            problem = "is not encrypted"
        if not location or problem:
            where = f"{urls.shown(target)}, which {problem}" if location else "nowhere"
            raise HostError(f"{self._shown} redirects to {where}; correct the mirror")
        return target

    def _refusal(self, exc: urllib.error.HTTPError, have: int) -> Exception:
        """What to raise for an answer that is no file."""
        if exc.code in (404, 410):
            advice = "check the version, the platform and the base URL"
            return NotThereError(f"{self._shown} does not exist (status {exc.code})", advice)
        headers = dict(exc.headers.items())
        later = http_answers.why_later(exc.code, headers)
        if later:
            return _InterruptedError(later, http_answers.asked_pause_seconds(headers))
        if exc.code in (401, 403):
            advice = "check the user, the password or the token" if self._options.authorization() else "give url_username or url_token"
            return HostError(f"{self._shown} is refused (status {exc.code}); {advice}")
        if exc.code == 416 and have:
            self._host.remove(self._path)
            return _InterruptedError("what had come before does not fit")
        return HostError(f"{self._shown} cannot be had (status {exc.code}); check the base URL and the proxy")

    def _judge(self, response: http.client.HTTPResponse, have: int) -> t.Tuple[int, t.Optional[int]]:
        """From which byte on the answer is, and how long the whole file is, None where nothing says it."""
        start, total = 0, self._size_bytes
        length = response.headers.get("Content-Length", "")
        said = int(length) if _LENGTH.fullmatch(length) else None
        if response.status == 206:
            match = _RANGE.match(response.headers.get("Content-Range", ""))
            start = int(match.group(1)) if match else -1
            if start != have:
                self._host.remove(self._path)
                raise _InterruptedError("the answer is not the part that was asked for")
            said = int(match.group(2)) if match and match.group(2) != "*" else None
        if total is not None and said is not None and said != total:
            self._host.remove(self._path)
            raise HostError(
                f"{self._shown} has {said} bytes there, and {total} in the lock, so nothing of it is taken: {TAMPERED}, or use the mirror "
                "that the lock was made from"
            )
        if total is None and said is not None:
            self._check_room(said)
        return start, said if total is None else total

    def _check_room(self, needed_bytes: int) -> None:
        check_room(self._host, posixpath.dirname(self._path), needed_bytes, self._shown)

    def _check_certificates(self) -> None:
        path = self._options.ca_path
        if path is not None and b"-----BEGIN " not in (self._host.read(path) or b""):
            raise BadInputError(f"ca_path: {path} is no file of certificates in PEM on the host that downloads; put one there")

    def _have(self) -> int:
        status = self._host.status(self._path)
        return 0 if status is None else status.size_bytes

    def _too_late(self, why: str = "") -> HostError:
        return HostError(
            f"{self._shown} did not come within {self._options.deadline_seconds:g} seconds ({self._have()} bytes did){why}; "
            f"{self._advice()}, or use a nearer mirror"
        )

    def _advice(self) -> str:
        if self._have() and self._size_bytes is not None:
            return "run again to go on from there"
        return "check base_url and the proxy, or take the archive from a folder, for a node also by the source push"


def _words(error: t.Union[str, BaseException]) -> str:
    """What an error of the network says, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
