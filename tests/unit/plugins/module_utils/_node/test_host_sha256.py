# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import pathlib

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import HostError


def test_digest_of_a_file_of_several_pieces(tmp_path: pathlib.Path) -> None:
    data = os.urandom(3 * 1024 * 1024 + 7)
    path = tmp_path / "llama-box"
    path.write_bytes(data)
    assert Host().sha256(str(path)) == hashlib.sha256(data).hexdigest()


def test_nothing_there(tmp_path: pathlib.Path) -> None:
    assert Host().sha256(str(tmp_path / "missing")) is None
    (tmp_path / "file").write_bytes(b"")
    assert Host().sha256(str(tmp_path / "file" / "below")) is None


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: pathlib.Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(HostError, match="is not a regular file"):
        Host().sha256(str(fifo))


def test_what_cannot_be_opened_says_why(tmp_path: pathlib.Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(HostError, match="cannot be read: Too many levels of symbolic links"):
        Host().sha256(str(loop))


def test_a_read_that_fails_says_why() -> None:
    # Reading a process's own memory from its beginning is an input/output error on Linux, and opening it is none.
    if not os.path.exists("/proc/self/mem"):
        pytest.skip("there is no /proc/self/mem here")
    with pytest.raises(HostError, match=r"/proc/self/mem cannot be read: Input/output error"):
        Host().sha256("/proc/self/mem")
