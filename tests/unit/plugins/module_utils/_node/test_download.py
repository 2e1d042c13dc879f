# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Downloads from a real server on the loopback interface, with the faults of real ones."""

from __future__ import annotations

import dataclasses
import pathlib
import socket
import time
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node import download as module
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.download import DownloadOptions, NotThereError, download
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.tests.mirror.mirror import Fault, Mirror, make_certificates, running

CONTENT = bytes(range(256)) * 40
SIZE = len(CONTENT)
PATH = "/a/box.zip"
QUICK = DownloadOptions(timeout_seconds=5.0, deadline_seconds=60.0, retries=2)


class PatientHost(Host):
    """This machine, on which pauses take no time but are counted."""

    def __init__(self) -> None:
        self.pauses: list[float] = []
        self.free: int | None = None

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.pauses)

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def free_bytes(self, folder: str) -> int:
        return super().free_bytes(folder) if self.free is None else self.free


@dataclasses.dataclass
class Place:
    """A mirror, and where its file shall come to."""

    mirror: Mirror
    host: PatientHost
    part: pathlib.Path

    @property
    def url(self) -> str:
        return self.mirror.base_url + PATH

    def fail(self, *faults: Fault, path: str = PATH) -> None:
        self.mirror.faults[path] = list(faults)

    def get(self, size_bytes: int | None = SIZE, options: DownloadOptions = QUICK, url: str | None = None) -> bool:
        return download(self.host, url or self.url, str(self.part), size_bytes, options)

    def refusal(self, kind: type[Exception] = HostError, **words: t.Any) -> str:
        with pytest.raises(kind) as caught:
            self.get(**words)
        return str(caught.value)

    def seen(self, header: str) -> list[str | None]:
        return [request.headers.get(header) for request in self.mirror.seen]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory) -> pathlib.Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def folder_with_file(tmp_path: pathlib.Path) -> pathlib.Path:
    file = tmp_path / "served" / PATH.lstrip("/")
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    return tmp_path / "served"


@pytest.fixture
def place(tmp_path) -> t.Iterator[Place]:
    with running(Mirror(folder_with_file(tmp_path))) as mirror:
        yield Place(mirror, PatientHost(), tmp_path / "box.part")


def test_fetches_a_file_that_only_its_owner_may_read(place):
    assert place.get() is False
    assert place.part.read_bytes() == CONTENT
    assert place.part.stat().st_mode & 0o777 == 0o600
    assert place.seen("Range") == [None]
    assert place.seen("Accept-Encoding") == ["identity"]
    assert place.seen("User-Agent") == ["metalfleet.gpustack"]
    assert place.host.pauses == []


def test_fetches_a_file_of_unknown_size_anew(place):
    place.part.write_bytes(b"of another file")
    assert place.get(size_bytes=None) is False
    assert place.part.read_bytes() == CONTENT


def test_goes_on_from_what_an_earlier_run_left(place):
    place.part.write_bytes(CONTENT[:1000])
    assert place.get() is True
    assert place.part.read_bytes() == CONTENT
    assert place.seen("Range") == ["bytes=1000-"]


def test_asks_nobody_for_what_is_there(place):
    place.part.write_bytes(CONTENT)
    assert place.get() is True
    assert place.mirror.seen == []


def test_starts_again_where_more_is_there_than_can_be(place):
    place.part.write_bytes(CONTENT + b"x")
    assert place.get() is False
    assert place.part.read_bytes() == CONTENT


def test_starts_again_where_the_server_knows_no_ranges(place):
    place.part.write_bytes(b"x" * 1000)
    place.fail(Fault(ignore_range=True))
    assert place.get() is True
    assert place.part.read_bytes() == CONTENT


@pytest.mark.parametrize("answer", ["bytes 999-10239/10240", "bytes 1001-10239/10240", "units of its own", None])
def test_takes_no_other_part_than_it_asked_for(place, answer):
    place.part.write_bytes(b"x" * 1000)
    place.fail(Fault(status=206, ignore_range=True, headers={"Content-Range": answer} if answer else {}))
    place.get()
    assert place.part.read_bytes() == CONTENT
    assert place.seen("Range") == ["bytes=1000-", None]


def test_takes_a_part_of_a_total_that_is_not_said(place):
    place.part.write_bytes(CONTENT[:1000])
    place.fail(Fault(headers={"Content-Range": f"bytes 1000-{SIZE - 1}/*"}))
    place.get()
    assert place.part.read_bytes() == CONTENT


def test_refuses_a_part_of_a_file_of_another_size(place):
    place.part.write_bytes(CONTENT[:1000])
    place.fail(Fault(headers={"Content-Range": f"bytes 1000-{SIZE - 1}/20000"}))
    assert place.refusal() == (
        f"{place.url} has 20000 bytes there, and 10240 in the lock, so nothing of it is taken: somebody has tampered with it, or it was "
        "damaged; find out which before anything else, or use the mirror that the lock was made from"
    )
    assert not place.part.exists()


@pytest.mark.parametrize("header", ["Content-Length: {}", "Content-Range: bytes {}-10239/10240", "Content-Range: bytes 1000-10239/{}"])
def test_numbers_of_absurd_length_are_no_numbers(place, header):
    name, _colon, value = header.partition(": ")
    place.part.write_bytes(CONTENT[:1000])
    # int() refuses thousands of digits.
    place.fail(Fault(headers={name: value.format("9" * 5000)}))
    place.get()
    assert place.part.read_bytes() == CONTENT


def test_starts_again_where_what_came_before_does_not_fit(place):
    place.part.write_bytes(b"x" * 1000)
    place.fail(Fault(status=416))
    place.get()
    assert place.part.read_bytes() == CONTENT
    assert place.host.pauses == [1.0]


def test_does_not_ask_again_for_a_range_it_did_not_ask_for(place):
    place.fail(Fault(status=416))
    assert "(status 416)" in place.refusal()


def test_goes_on_after_cuts_as_long_as_each_brings_something(place):
    place.fail(*[Fault(cut_after_bytes=1000)] * 8)
    place.get(options=dataclasses.replace(QUICK, retries=1))
    assert place.part.read_bytes() == CONTENT
    assert place.seen("Range") == [None, *(f"bytes={count}000-" for count in range(1, 9))]
    assert place.host.pauses == [1.0] * 8


def test_gives_up_where_nothing_more_comes(place):
    place.fail(Fault(cut_after_bytes=1000), Fault(cut_after_bytes=0, always=True))
    assert place.refusal() == (
        f"{place.url} could not be downloaded: the connection was cut after 1000 of 10240 bytes; run again to go on from there"
    )
    assert place.part.read_bytes() == CONTENT[:1000]
    assert place.host.pauses == [1.0, 2.0]
    assert len(place.mirror.seen) == 3


def test_does_not_promise_to_go_on_with_a_file_of_unknown_size(place):
    place.fail(Fault(cut_after_bytes=1000), Fault(cut_after_bytes=0, always=True))
    assert "; check base_url and the proxy, " in place.refusal(size_bytes=None)
    assert place.part.stat().st_size > 0


def test_does_not_count_the_same_bytes_twice_as_something(place):
    place.fail(Fault(cut_after_bytes=1000, ignore_range=True, always=True))
    place.refusal()
    assert len(place.mirror.seen) == 3


def test_notices_a_cut_of_a_file_of_unknown_size(place):
    place.fail(Fault(cut_after_bytes=1000))
    place.get(size_bytes=None)
    assert place.part.read_bytes() == CONTENT


def test_takes_the_end_of_a_file_of_which_nothing_says_the_size(place):
    place.fail(Fault(no_length=True))
    place.get(size_bytes=None)
    assert place.part.read_bytes() == CONTENT


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_tries_again_what_may_pass(place, status):
    place.fail(Fault(status=status))
    place.get()
    assert place.part.read_bytes() == CONTENT
    assert place.host.pauses == [1.0]


@pytest.mark.parametrize("headers", [{"Retry-After": "9"}, {"X-RateLimit-Remaining": "0"}])
def test_comes_back_where_it_is_refused_for_now_only(place, headers):
    place.fail(Fault(status=403, headers=headers))
    place.get()
    assert place.host.pauses == [float(headers.get("Retry-After", 1.0))]
    place.part.unlink()
    place.fail(Fault(status=403, headers=headers, always=True))
    assert place.refusal() == (
        f"{place.url} could not be downloaded: status 403, as too much was asked of this server lately, so wait, or use a mirror of your "
        "own; check base_url and the proxy, or take the archive from a folder, for a node also by the source push"
    )


@pytest.mark.parametrize(("asked", "pause"), [("7", 7.0), ("900", 30.0), ("0", 1.0), ("tomorrow", 1.0)])
def test_waits_as_long_as_it_is_asked_to(place, asked, pause):
    place.fail(Fault(status=503, headers={"Retry-After": asked}))
    place.get()
    assert place.host.pauses == [pause]


def test_waits_longer_each_time_but_not_for_ever(place):
    place.fail(Fault(status=503, always=True))
    assert "status 503" in place.refusal(options=dataclasses.replace(QUICK, retries=7, deadline_seconds=1000))
    assert place.host.pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_does_not_try_again_where_it_is_told_not_to(place):
    place.fail(Fault(status=503))
    place.refusal(options=dataclasses.replace(QUICK, retries=0))
    assert len(place.mirror.seen) == 1


def test_ends_where_the_next_pause_would_be_too_long(place):
    place.fail(Fault(status=503, always=True))
    message = place.refusal(options=dataclasses.replace(QUICK, retries=9, deadline_seconds=10))
    assert message == (
        f"{place.url} did not come within 10 seconds (0 bytes did): status 503; check base_url and the proxy, or take the archive from a "
        "folder, for a node also by the source push, or use a nearer mirror"
    )
    assert place.host.pauses == [1.0, 2.0, 4.0]


def test_ends_a_download_that_drips(place):
    place.fail(Fault(bytes_per_second=2000, always=True))
    message = place.refusal(options=dataclasses.replace(QUICK, deadline_seconds=0.5))
    assert message.startswith(f"{place.url} did not come within 0.5 seconds (")
    assert message.endswith("; run again to go on from there, or use a nearer mirror")
    assert 0 < place.part.stat().st_size < SIZE


def test_ends_an_answer_that_drips_before_its_content_comes(place):
    """Each byte of its headers comes in time, and all of them would take three minutes."""
    place.fail(Fault(header_bytes_per_second=10, headers={"X-Long": "x" * 2000}, always=True))
    start = time.monotonic()
    message = place.refusal(options=dataclasses.replace(QUICK, deadline_seconds=0.5))
    assert message.startswith(f"{place.url} did not come within 0.5 seconds (0 bytes did); ")
    assert time.monotonic() - start < 10


def test_ends_chunks_that_drip(place):
    """http.client looks at no clock while it waits for the line that says how long a chunk is."""
    place.fail(Fault(drip_chunk_line=True, always=True))
    start = time.monotonic()
    assert "did not come within 0.5 seconds" in place.refusal(options=dataclasses.replace(QUICK, deadline_seconds=0.5))
    assert time.monotonic() - start < 10


def test_ends_a_silence(place):
    place.fail(Fault(silence_seconds=0.6))
    place.get(options=dataclasses.replace(QUICK, timeout_seconds=0.2))
    assert place.host.pauses == [1.0]


def test_says_that_nothing_answered(place):
    place.fail(Fault(hang_up=True, always=True))
    assert f"{place.url} could not be downloaded: no answer (Remote end closed connection" in place.refusal()


def test_says_that_nobody_listens(place):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/x.zip"
    assert place.refusal(url=url) == (
        f"{url} could not be downloaded: no connection (Connection refused); check base_url and the proxy, or take the archive from a "
        "folder, for a node also by the source push"
    )
    assert place.host.pauses == [1.0, 2.0]


@pytest.mark.parametrize("status", [404, 410])
def test_says_that_it_is_not_there(place, status):
    place.fail(Fault(status=status))
    assert place.refusal(NotThereError) == (
        f"{place.url} does not exist (status {status}); check the version, the platform and the base URL"
    )
    assert len(place.mirror.seen) == 1


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (QUICK, "give url_username or url_token"),
        (dataclasses.replace(QUICK, token="t0ken"), "check the user, the password or the token"),
    ],
)
def test_says_that_it_is_refused(place, status, options, advice):
    place.fail(Fault(status=status))
    assert place.refusal(options=options) == f"{place.url} is refused (status {status}); {advice}"
    assert len(place.mirror.seen) == 1


@pytest.mark.parametrize("status", [400, 407, 418, 451, 300, 304])
def test_does_not_insist_on_what_cannot_be_had(place, status):
    place.fail(Fault(status=status))
    assert place.refusal() == f"{place.url} cannot be had (status {status}); check the base URL and the proxy"
    assert len(place.mirror.seen) == 1


def test_never_takes_more_than_the_lock_says(place):
    place.fail(Fault(no_length=True))
    assert place.refusal(size_bytes=SIZE - 1) == (
        f"{place.url} has more than {SIZE - 1} bytes there, so it is not the archive of the lock: somebody has tampered with it, or it was "
        "damaged; find out which before anything else"
    )
    assert not place.part.exists()


def test_never_takes_more_than_any_archive_has(place, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_ARCHIVE_BYTES", SIZE - 1)
    place.fail(Fault(no_length=True))
    assert place.refusal(size_bytes=None) == f"{place.url} has more than {SIZE - 1} bytes there, which no archive of llama-box has"


def test_does_not_begin_with_a_file_of_another_size(place):
    assert "has 10240 bytes there, and 10241 in the lock, so nothing of it is taken" in place.refusal(size_bytes=SIZE + 1)
    assert not place.part.exists()


SPARE = 64 * 1024 * 1024


def test_wants_room_before_it_asks(place):
    place.host.free = SIZE - 1000 + SPARE - 1
    place.part.write_bytes(CONTENT[:1000])
    assert place.refusal() == (
        f"{place.part.parent} has room for {place.host.free} bytes, and {place.url} needs 9240 and {SPARE} to spare; make room there"
    )
    assert place.mirror.seen == []
    place.host.free += 1
    place.get()


def test_wants_room_for_a_file_of_unknown_size_as_soon_as_it_is_known(place):
    place.host.free = SIZE + SPARE - 1
    assert f"needs {SIZE}" in place.refusal(size_bytes=None)
    place.host.free += 1
    place.get(size_bytes=None)


def redirect(target: str, status: int = 302) -> Fault:
    return Fault(status=status, headers={"Location": target}, always=True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_follows_redirects_with_the_range(place, status):
    place.part.write_bytes(CONTENT[:1000])
    place.fail(redirect(PATH, status), path="/old.zip")
    place.get(url=f"{place.mirror.base_url}/old.zip")
    assert place.part.read_bytes() == CONTENT
    assert place.seen("Range") == ["bytes=1000-"] * 2


def test_follows_ten_redirects_and_not_eleven(place):
    for number in range(11):
        place.fail(redirect(f"/{number + 1}.zip" if number < 10 else PATH), path=f"/{number}.zip")
    place.get(url=f"{place.mirror.base_url}/1.zip")
    place.part.unlink()
    message = place.refusal(url=f"{place.mirror.base_url}/0.zip")
    assert message == f"{place.mirror.base_url}/0.zip redirects more than 10 times; correct the mirror"


def test_quotes_what_servers_put_into_redirects(place):
    place.fail(redirect("/a/bo\xe4x.zip"))
    with pytest.raises(NotThereError):
        place.get()
    assert place.mirror.seen[-1].path == b"/a/bo\xe4x.zip".decode(errors="replace")


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("file:///etc/hostname", "redirects to file:///etc/hostname, which does not begin with https:// or http://"),
        ("ftp://mirror.example/x", "redirects to ftp://mirror.example/x, which does not begin with https:// or http://"),
        ("http://user:secret@mirror.example/x", "redirects to http://mirror.example/x, which holds a user or a password"),
        ("", "redirects to nowhere"),
    ],
)
def test_does_not_follow_where_nothing_good_can_be(place, target, says):
    place.fail(redirect(target))
    message = place.refusal()
    assert says in message
    assert message.endswith("; correct the mirror")
    assert "secret" not in message
    assert not place.part.exists()


def test_does_not_follow_a_redirect_without_a_target(place):
    place.fail(Fault(status=302))
    assert place.refusal() == f"{place.url} redirects to nowhere; correct the mirror"


BASIC = dataclasses.replace(QUICK, username="fleet", password="s3cret")


@pytest.mark.parametrize(
    ("options", "header"),
    [
        (QUICK, None),
        (BASIC, "Basic ZmxlZXQ6czNjcmV0"),
        (dataclasses.replace(QUICK, username="fleet"), "Basic ZmxlZXQ6"),
        (dataclasses.replace(QUICK, token="t0ken"), "Bearer t0ken"),
    ],
)
def test_says_who_it_is(place, options, header):
    place.get(options=options)
    assert place.seen("Authorization") == [header]


def test_is_let_in_by_a_server_that_wants_to_know(tmp_path):
    with running(Mirror(folder_with_file(tmp_path), user="fleet:s3cret", token="t0ken")) as mirror:
        place = Place(mirror, PatientHost(), tmp_path / "box.part")
        assert "status 401" in place.refusal()
        assert "status 403" in place.refusal(options=dataclasses.replace(QUICK, token="wrong"))
        place.get(options=BASIC)
        place.part.unlink()
        place.get(options=dataclasses.replace(QUICK, token="t0ken"))


def test_takes_credentials_along_on_the_same_server_only(place, tmp_path):
    with running(Mirror(place.mirror.folder)) as other:
        place.fail(redirect("/near.zip"))
        place.fail(redirect(other.base_url + PATH), path="/near.zip")
        place.get(options=BASIC)
        assert place.seen("Authorization") == ["Basic ZmxlZXQ6czNjcmV0"] * 2
        assert [request.headers.get("Authorization") for request in other.seen] == [None]


def test_never_shows_secrets(place):
    options = dataclasses.replace(BASIC, token="t0ken")
    assert "s3cret" not in repr(options)
    assert "t0ken" not in repr(options)
    place.fail(Fault(status=500, always=True))
    for url in (f"{place.url}?X-Amz-Signature=s3cret", f"{place.url}#s3cret"):
        assert "s3cret" not in place.refusal(options=options, url=url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("file:///etc/hostname", "file:///etc/hostname does not begin with https:// or http://"),
        ("http://a:s3cret@b/x.zip", "http://b/x.zip holds a user or a password, which have options of their own"),
    ],
)
def test_refuses_urls_that_are_none_to_download_from(place, url, says):
    assert place.refusal(BadInputError, url=url) == f"{says}; correct the base URL or the lock"


def test_refuses_a_redirect_that_is_no_url(place):
    place.fail(redirect("http://[::1/x"))
    assert place.refusal(BadInputError) == f"{place.url} cannot be asked for (Invalid IPv6 URL); correct the base URL or the mirror"


def test_refuses_a_host_name_that_no_resolver_takes(place):
    message = place.refusal(BadInputError, url=f"http://{'a' * 64}.example/x.zip")
    assert message.startswith(f"http://{'a' * 64}.example/x.zip cannot be asked for (")
    assert message.endswith("; correct the base URL or the mirror")


def test_trusts_a_ca_of_its_own(tmp_path, certificates):
    with running(Mirror(folder_with_file(tmp_path), certificates=certificates)) as mirror:
        place = Place(mirror, PatientHost(), tmp_path / "box.part")
        message = place.refusal()
        assert message.startswith(f"{place.url}: the server's certificate is not accepted (")
        assert message.endswith("; name the certificate of its CA in ca_path")
        assert place.host.pauses == []
        place.get(options=dataclasses.replace(QUICK, ca_path=str(certificates / "ca.pem")))
        assert place.part.read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("days", "name", "says"),
    [
        (-1, "127.0.0.1", "certificate has expired); renew the server's certificate, or look at the clock of the host that asked"),
        (30, "mirror.example", "'127.0.0.1'); use the name that the certificate is for, or correct the server's certificate"),
    ],
)
def test_says_what_is_wrong_with_a_certificate(tmp_path, days, name, says):
    bad = make_certificates(tmp_path / "bad", name, days)
    with running(Mirror(folder_with_file(tmp_path), certificates=bad)) as mirror:
        place = Place(mirror, PatientHost(), tmp_path / "box.part")
        message = place.refusal(options=dataclasses.replace(QUICK, ca_path=str(bad / "ca.pem")))
        assert message.startswith(f"{place.url}: the server's certificate is not accepted (")
        assert message.endswith(says)
        assert place.host.pauses == []


def test_does_not_follow_from_https_to_http(tmp_path, certificates):
    trusting = dataclasses.replace(QUICK, ca_path=str(certificates / "ca.pem"))
    with running(Mirror(folder_with_file(tmp_path), certificates=certificates)) as mirror, running(Mirror(mirror.folder)) as plain:
        place = Place(mirror, PatientHost(), tmp_path / "box.part")
        place.fail(redirect(plain.base_url + PATH))
        assert place.refusal(options=trusting) == (
            f"{place.url} redirects to {plain.base_url}{PATH}, which is not encrypted; correct the mirror"
        )
        assert plain.seen == []


@pytest.mark.parametrize("content", [None, b"", b"not PEM"])
def test_wants_certificates_where_it_is_told_they_are(place, tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    assert place.refusal(BadInputError, options=dataclasses.replace(QUICK, ca_path=str(path))) == (
        f"ca_path: {path} is no file of certificates in PEM on the host that downloads; put one there"
    )


def test_goes_by_the_proxy_of_the_environment_unless_told_not_to(place, monkeypatch):
    with running(Mirror(place.mirror.folder)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        place.get()
        assert [request.proxied for request in proxy.seen] == [True]
        assert place.mirror.seen == []
        place.part.unlink()
        place.get(options=dataclasses.replace(QUICK, use_proxy=False))
        assert len(proxy.seen) == 1
        assert len(place.mirror.seen) == 1
        place.part.unlink()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        place.get()
        assert len(proxy.seen) == 1


def test_does_not_look_into_netrc(place, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login fleet password s3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    place.get()
    assert place.seen("Authorization") == [None]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(2, "No such  thing"), "No such  thing"),
        (ValueError("two\nlines"), "two lines"),
        (TimeoutError(), "TimeoutError"),
        ("a word", "a word"),
    ],
)
def test_says_what_the_network_says_in_one_line(error, words):
    assert module._words(error) == words


def test_says_after_how_many_bytes_a_connection_failed(place):
    place.fail(Fault(bytes_per_second=1))
    options = dataclasses.replace(QUICK, timeout_seconds=0.3, retries=0)
    assert place.refusal(options=options).startswith(f"{place.url} could not be downloaded: the connection failed after 1 bytes (")
