# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mirrors that answer wrongly: to a node that downloads, and to the playbook `lock` on the controller."""

from __future__ import annotations

import hashlib
import re
import time
import typing as t

from fault import SOON_SECONDS, Fault, require, require_cure, require_same_files, require_sentence, require_wanted
from faulty_node import RELEASE, FaultyNode, Look
from mirror import make_certificates
from mirrors import CONTROLLER, OTHER, Beside, write_lock

Answer = t.Mapping[str, t.Any]
# The total for one archive, which bounds what has no other bound.
_DEADLINE_SECONDS = 15
_TAMPERED = "somebody has tampered with it, or it was damaged; find out which before anything else"


def _always(**fault: t.Any) -> t.Dict[str, t.Any]:
    return {**fault, "always": True}


def _redirect(target: str) -> t.Dict[str, t.Any]:
    return _always(status=302, headers={"Location": target})


def _from(mirror: Beside, **more: t.Any) -> t.Dict[str, t.Any]:
    """The options of a node that downloads from there."""
    quickly = {"retries": 1, "timeout_seconds": 5, "deadline_seconds": _DEADLINE_SECONDS}
    return {"llama_box": {"source": "download", "base_url": mirror.base_url, **quickly, **more}}


def _require_nothing_of_it(node: FaultyNode, now: Look, before: Look, parts: bool = True) -> None:
    """No slot has changed, and the store has no release. parts: whether what came of an archive may wait for the next run."""
    require_same_files(now, before)
    left = [path for path in now.leftovers if not (parts and path.endswith(".part"))]
    require(not left and not now.hung, f"left behind: {left}, {now.hung}")
    require(now.service == before.service and now.starts == before.starts, f"the service is {now.service}, and it was {before.service}")
    store = node.sh(f"ls -A {node.state}/llama-box 2>/dev/null || true").split()
    require(RELEASE not in store, f"the store has {store}")


def _require_refused(mirror: Beside, says: str, before: Look, parts: bool = True, **more: t.Any) -> None:
    node = mirror.node
    start = time.monotonic()
    run = node.run(**_from(mirror, **more))
    took = time.monotonic() - start
    require(run.failed, f"the node took it: {run.result}")
    require_sentence(run, (says,))
    require(took < SOON_SECONDS + _DEADLINE_SECONDS, f"that took the node {took:.0f} s")
    _require_nothing_of_it(node, node.look(), before, parts)


def _require_no_lock(mirror: Beside, says: str, known: str = "", **more: t.Any) -> None:
    start = time.monotonic()
    status, said, lock = write_lock(mirror, deadline_seconds=_DEADLINE_SECONDS, **more)
    require(status != 0, "the playbook lock succeeded")
    require(re.search(says, said) is not None, f"the playbook lock does not say {says!r}: {said[-1500:]}")
    require(lock == known, f"the playbook lock has written {lock}")
    require(time.monotonic() - start < SOON_SECONDS + _DEADLINE_SECONDS, "that took the playbook lock too long")


def _refused(says: str, *answers: Answer, lock_says: str = "") -> t.Callable[[FaultyNode], None]:
    """Neither the node nor the playbook takes anything; both do once the mirror is right."""

    def story(node: FaultyNode) -> None:
        before = node.look()
        with Beside(node) as mirror:
            mirror.fail(*answers)
            _require_refused(mirror, says, before)
            mirror.fail(*answers)
            _require_no_lock(mirror, lock_says or says)
            mirror.fail()
            _require_cured(mirror)

    return story


def _require_cured(mirror: Beside) -> None:
    status, said, lock = write_lock(mirror)
    digest = str(mirror.node.release["sha256"])
    require(status == 0 and digest in lock, f"the playbook lock fails with a mirror that is right: {said[-1500:]}")
    require_cure(mirror.node, **_from(mirror))


def _borne(*answers: Answer, asked: int) -> t.Callable[[FaultyNode], None]:
    """Node and playbook get the archive all the same. asked: how often each of them has to ask."""

    def story(node: FaultyNode) -> None:
        with Beside(node) as mirror:
            mirror.fail(*answers)
            run = node.run(**_from(mirror))
            require(not run.failed, f"the node failed: {run.message}")
            require(len(mirror.seen()) == asked, f"the node asked {len(mirror.seen())} times")
            require_wanted(node.look())
            mirror.fail(*answers)
            status, said, lock = write_lock(mirror)
            require(status == 0 and str(node.release["sha256"]) in lock, f"the playbook lock failed: {said[-1500:]}")

    return story


def _resumed(node: FaultyNode) -> None:
    """Connections that are cut again and again: each goes on where the one before was cut."""
    with Beside(node) as mirror:
        mirror.fail(*[{"cut_after_bytes": 500}] * 3)
        run = node.run(**_from(mirror))
        require(not run.failed, f"the node failed: {run.message}")
        ranges = [request["headers"].get("Range") for request in mirror.seen()]
        require(ranges == [None, "bytes=500-", "bytes=1000-", "bytes=1500-"], f"it asked for {ranges}")
        require_wanted(node.look())


def _resumed_by_the_next_run(node: FaultyNode) -> None:
    """A mirror that is gone in the middle, and back for the next run, which asks for the rest only."""
    before = node.look()
    with Beside(node) as mirror:
        mirror.fail({"cut_after_bytes": 700}, *[{"hang_up": True}] * 5)
        _require_refused(mirror, r"could not be downloaded: .*; run again to go on from there", before)
        asked = len(mirror.seen())
        mirror.fail()
        require_cure(node, **_from(mirror))
        ranges = [request["headers"].get("Range") for request in mirror.seen()[asked:]]
        require(ranges == ["bytes=700-"], f"the next run asked for {ranges}")


def _another_host(node: FaultyNode) -> None:
    """It is followed; who was to see the password sees it, and nobody else."""
    node_only = {"url_username": "fleet", "url_password": "canary-of-the-mirror"}
    with Beside(node, CONTROLLER, None, "--user", "fleet:canary-of-the-mirror") as mirror, Beside(node, OTHER) as other:
        mirror.fail({"status": 302, "headers": {"Location": other.base_url + other.path}, "always": True})
        run = node.run(**_from(mirror, **node_only))
        require(not run.failed, f"the node failed: {run.message}")
        status, said, _lock = write_lock(mirror, **node_only)
        require(status == 0, f"the playbook lock failed: {said[-1500:]}")
        require("canary" not in said and "canary" not in str(run.result), "the password is shown")
        require([request["authorized"] for request in mirror.seen()] == [True, True], f"{mirror.seen()}")
        require([request["authorized"] for request in other.seen()] == [False, False], "the other host was told the password")
        require_wanted(node.look())


def _tampered(node: FaultyNode) -> None:
    """The mirror's file is changed after the lock was written: as many bytes of it, then more. All refuse it, wherever it comes from."""
    before = node.look()
    with Beside(node) as mirror:
        status, said, lock = write_lock(mirror)
        require(status == 0, f"the lock could not be written: {said[-1500:]}")
        good = mirror.file().read_bytes()
        bad = good.replace(b"stand-in", b"STAND-IN")
        digest = hashlib.sha256(bad).hexdigest()
        require(len(bad) == len(good) and bad != good, "the archive was not changed")
        mirror.file().write_bytes(bad)
        both = rf"with the sha256 {digest}, and not \d+ with {node.release['sha256']}: {_TAMPERED}"
        _require_refused(mirror, both, before, parts=False)
        _require_no_lock(mirror, both, lock, verify=True)
        # Carried by hand, or by the controller, it is the same.
        node.sh(f"mkdir -p /tmp/carried/{RELEASE} && cat >/tmp/carried/{RELEASE}/{mirror.file().name}", bad)
        run = node.run(llama_box={"source": "folder", "folder": "/tmp/carried"})
        require(run.failed, "the node took the archive from the folder")
        require_sentence(run, (both,))
        _require_nothing_of_it(node, node.look(), before, parts=False)
        mirror.file().write_bytes(bad + b"more")
        _require_refused(
            mirror, rf"has {len(bad) + 4} bytes there, and {len(bad)} in the lock, so nothing of it is taken: {_TAMPERED}", before, False
        )
        _require_no_lock(mirror, rf"bytes there, and {len(bad)} in the lock.*{_TAMPERED}|{_TAMPERED}", lock, verify=True)
        mirror.file().write_bytes(good)
        require_cure(node, **_from(mirror))


def _certificate(name: str, days: int, says: str, trusted: bool = True) -> t.Callable[[FaultyNode], None]:
    """A server whose certificate is not accepted, and the same with a good one."""

    def story(node: FaultyNode) -> None:
        top = node.layer.parent / f"certificates-{node.name}"
        bad = make_certificates(top / "bad", name, days)
        good = make_certificates(top / "good", CONTROLLER)
        for authority in (bad, good):
            node.write(f"/etc/{authority.name}-ca.pem", (authority / "ca.pem").read_text())
        before = node.look()
        on_node: t.Dict[str, t.Any] = {"ca_path": "/etc/bad-ca.pem"} if trusted else {}
        on_controller = {"ca_path": str(bad / "ca.pem")} if trusted else {}
        with Beside(node, CONTROLLER, bad) as mirror:
            _require_refused(mirror, says, before, **on_node)
            _require_no_lock(mirror, says, **on_controller)
        with Beside(node, CONTROLLER, good) as mirror:
            status, said, _lock = write_lock(mirror, ca_path=str(good / "ca.pem"))
            require(status == 0, f"the playbook lock fails with a certificate that is right: {said[-1500:]}")
            require_cure(node, **_from(mirror, ca_path="/etc/good-ca.pem"))

    return story


_LIMIT = "status 403, as too much was asked of this server lately, so wait, or use a mirror of your own"
_NOT_ACCEPTED = r"the server's certificate is not accepted \(.*\); "
FAULTS = (
    Fault(
        "mirror_404",
        "linux",
        _refused(r"does not exist \(status 404\); check the version, the platform and the base URL", _always(status=404)),
    ),
    Fault("mirror_403", "linux", _refused(r"is refused \(status 403\); give url_username or url_token", _always(status=403))),
    Fault("mirror_403_limit", "linux", _refused(_LIMIT, _always(status=403, headers={"X-RateLimit-Remaining": "0"}))),
    Fault("mirror_403_limit_that_passes", "linux", _borne({"status": 403, "headers": {"Retry-After": "1"}}, asked=2)),
    Fault("mirror_500", "linux", _refused("could not be downloaded: status 500; ", _always(status=500))),
    Fault("mirror_500_that_passes", "linux", _borne({"status": 500}, asked=2)),
    Fault(
        "mirror_redirects_to_file",
        "linux",
        _refused(
            "redirects to file:///etc/passwd, which does not begin with https:// or http://; correct the mirror",
            _redirect("file:///etc/passwd"),
        ),
    ),
    # To itself: a target that is a path is on the same server.
    Fault("mirror_redirects_in_a_loop", "linux", _refused("redirects more than 10 times; correct the mirror", _redirect("#again"))),
    Fault("mirror_redirects_to_another_host", "linux", _another_host),
    Fault(
        "mirror_sends_10_bytes_a_second",
        "mac",
        _refused(rf"did not come within {_DEADLINE_SECONDS} seconds \(\d+ bytes did\); ", _always(bytes_per_second=10)),
    ),
    Fault(
        "mirror_sends_10_bytes_of_headers_a_second",
        "linux",
        _refused(
            rf"did not come within {_DEADLINE_SECONDS} seconds \(0 bytes did\); ",
            _always(header_bytes_per_second=10, headers={"X-Long": "x" * 1000}),
        ),
    ),
    Fault("mirror_cuts", "linux", _resumed),
    Fault("mirror_goes_away_in_the_middle", "mac", _resumed_by_the_next_run),
    Fault(
        "mirror_has_another_content",
        "linux",
        _refused(_TAMPERED, _always(content="not an archive"), lock_says="is not a zip archive that can be read"),
    ),
    Fault("mirror_is_changed_after_the_lock", "linux", _tampered, some=True),
    Fault(
        "mirror_certificate_has_expired",
        "linux",
        _certificate(CONTROLLER, -1, _NOT_ACCEPTED + "renew the server's certificate, or look at the clock"),
    ),
    Fault(
        "mirror_certificate_of_another_name",
        "linux",
        _certificate("mirror.example", 30, _NOT_ACCEPTED + "use the name that the certificate is for"),
    ),
    Fault(
        "mirror_certificate_of_nobody",
        "linux",
        _certificate(CONTROLLER, 30, _NOT_ACCEPTED + "name the certificate of its CA in ca_path", trusted=False),
    ),
)
