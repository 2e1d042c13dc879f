# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trying programs on a Mac in memory with scripted xattr and codesign."""

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import CommandResult
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.trial import try_program
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import Release
from ansible_collections.metalfleet.gpustack.tests.unit.fakes import MemoryHost

RELEASE = Release("v0.0.171", "dl-darwin-arm64-metal", "https://x", "0" * 64, 1, {"libggml.dylib": "1" * 64, "llama-box": "2" * 64})
PROGRAM, LIBRARY = "/s/llama-box", "/s/libggml.dylib"
MARK = "com.apple.quarantine"
FINE = CommandResult(0, "", "")
ABSENT = CommandResult(1, "", f"xattr: {PROGRAM}: No such xattr: {MARK}\n")
SAYS = CommandResult(0, "", "version    : v0.0.171 (abcdef0)\n")


def mac(**replies) -> MemoryHost:
    """A Mac on which everything is fine. Replies by what is asked: mark, unmark, signature, version."""
    host = MemoryHost("Darwin", "arm64")
    for path in (PROGRAM, LIBRARY):
        host.commands["xattr", "-p", MARK, path] = ABSENT
        host.commands["codesign", "--verify", path] = FINE
    host.commands[PROGRAM, "--version"] = SAYS
    words = {
        "mark": ("xattr", "-p", MARK, PROGRAM),
        "unmark": ("xattr", "-d", MARK, PROGRAM),
        "signature": ("codesign", "--verify", LIBRARY),
        "version": (PROGRAM, "--version"),
    }
    for name, reply in replies.items():
        host.commands[words[name]] = reply
    return host


def refusal(host: MemoryHost, kind: type[Exception] = BadInputError) -> str:
    with pytest.raises(kind) as caught:
        try_program(host, RELEASE, "/s")
    return str(caught.value)


def test_looks_at_every_file_and_runs_the_program():
    host = mac()
    assert try_program(host, RELEASE, "/s") == ()
    assert set(host.calls) == set(host.commands)
    assert host.calls[-1] == (PROGRAM, "--version")


def test_takes_the_mark_of_quarantine_off():
    host = mac(mark=CommandResult(0, "0081;0;Safari;\n", ""), unmark=FINE)
    assert try_program(host, RELEASE, "/s") == ()
    assert ("xattr", "-d", MARK, PROGRAM) in host.calls
    assert ("xattr", "-d", MARK, LIBRARY) not in host.calls


def test_says_that_the_mark_stays():
    host = mac(mark=FINE, unmark=CommandResult(1, "", "xattr: [Errno 1] Operation not permitted\n"))
    assert refusal(host, HostError) == (
        f"the mark {MARK} of {PROGRAM} cannot be removed (rc 1: xattr: [Errno 1] Operation not permitted); see what protects it"
    )


def test_refuses_a_broken_signature():
    host = mac(signature=CommandResult(1, "", f"{LIBRARY}: invalid signature (code or signature have been modified)\n"))
    assert refusal(host) == (
        f"{RELEASE.title} is not used: the signature of libggml.dylib is broken (rc 1: {LIBRARY}: invalid signature (code or signature "
        "have been modified)); take another release, or sign it again, pack it and write the lock from that archive"
    )
    assert (PROGRAM, "--version") not in host.calls


def test_takes_what_is_not_signed():
    host = mac(signature=CommandResult(1, "", f"{LIBRARY}: code object is not signed at all\n"))
    assert try_program(host, RELEASE, "/s") == ()


def test_warns_once_that_nobody_looked():
    host = mac()
    for words in [words for words in host.commands if words[0] in ("xattr", "codesign")]:
        del host.commands[words]
    assert try_program(host, RELEASE, "/s") == (
        f"xattr does not exist on this host, so nobody looked for the mark {MARK}",
        "codesign does not exist on this host, so nobody looked at the signatures of llama-box",
    )


def test_does_not_look_for_what_only_macs_have():
    host = MemoryHost("Linux", "x86_64", {(PROGRAM, "--version"): SAYS})
    assert try_program(host, RELEASE, "/s") == ()
    assert host.calls == [(PROGRAM, "--version")]


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (CommandResult(0, "", "version    : v0.0.139 (abcdef0)\n"), "it says that it is v0.0.139"),
        (CommandResult(-9, "", ""), "version: `--version` gave none (signal 9)"),
        (HostError("/s/llama-box cannot be run: Exec format error"), "version: /s/llama-box cannot be run: Exec format error"),
    ],
)
def test_refuses_a_program_that_is_not_what_it_should_be(reply, says):
    assert refusal(mac(version=reply)) == (
        f"{RELEASE.title} is not used on this host (Darwin, arm64): {says}; check the version, the platform and the toolkit"
    )
