# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a diff shows: our own open lines, and of all others no more than a name; a secret that changes is seen to change."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_readers import SYSTEMD, decode
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_view import shown
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_file import merge
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY, file_bytes
from hypothesis import given
from hypothesis import strategies as st

BEGIN = "# BEGIN managed by metalfleet.gpustack"
END = "# END managed by metalfleet.gpustack"
NOT_OURS = "(a line that is not ours)"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (None, ""),
        ("", ""),
        ("\n", "\n"),
        ("OPEN=1\n", "OPEN=1\n"),
        ("OPEN=1", "OPEN=1\n"),
        ("OPEN=2\n", "OPEN=(not shown)\n"),
        ("SECRET=canary\n", "SECRET=(secret)\n"),
        ("SECRET=old\n", "SECRET=(not shown)\n"),
        ("# ours\n", "# ours\n"),
        ("# theirs\n;theirs\n  # theirs\n", "# (a comment)\n# (a comment)\n# (a comment)\n"),
        (f"{BEGIN} (new file)\n{END}\n", f"{BEGIN} (new file)\n{END}\n"),
        (f"{BEGIN} canary\n", "# (a comment)\n"),
        ("\n \n\t\n", "\n \n\t\n"),
        ("A=canary", "A=(not shown)\n"),
        ("export A = canary\n", "A=(not shown)\n"),
        ("'A'=canary\n", "A=(not shown)\n"),
        ("canary\n", f"{NOT_OURS}\n"),
        ("can ary=canary\n", f"{NOT_OURS}\n"),
        ("çanary=canary\n", f"{NOT_OURS}\n"),
        ("1=canary\n", f"{NOT_OURS}\n"),
        ("=canary\n", f"{NOT_OURS}\n"),
        # Lines of base64 look like assignments, and are a part of the value above.
        ("A='canary\ncanary=\ncanary==\n'\nB=1\n", f"A=(not shown)\n{NOT_OURS}\n{NOT_OURS}\n{NOT_OURS}\nB=(not shown)\n"),
        ('A="canary\ncanary=\n"\n', f"A=(not shown)\n{NOT_OURS}\n{NOT_OURS}\n"),
        ("A=canary\\\ncanary=\n", f"A=(not shown)\n{NOT_OURS}\n"),
        # For one of systemd's versions this one does.
        ("# c\\\nA='canary\ncanary=\n", f"# (a comment)\n{NOT_OURS}\n{NOT_OURS}\n"),
        ("A=1\rcanary=\n", "A=(not shown)\n"),
        ("A=canary\0\nB=\udcff\n", "A=(not shown)\nB=(not shown)\n"),
    ],
)
def test_shown(text: t.Optional[str], seen: str) -> None:
    assert shown(text, {"OPEN=1", "# ours"}, {"SECRET=canary"}) == seen


PLACES = (b"=canary/1", b"=canary/1\n", b"='canary/1", b"\ncanary/1=\n", b"# canary/1\n", b"\nexport canary/1\n", b"\nSECRET=canary/1\n")


@PROPERTY
@given(file_bytes(*PLACES), st.sampled_from([(), ("OPEN=1", "SECRET=canary/1")]))
def test_no_value_of_others_and_no_secret_is_shown(data: bytes, lines: t.Sequence[str]) -> None:
    text = decode(data)
    secret_lines = {line for line in lines if line.startswith("SECRET")}
    seen = shown(text, set(lines) - secret_lines, secret_lines)
    assert "canary" not in seen
    assert seen.count("\n") == text.count("\n") + (0 if not text or text.endswith("\n") else 1)


@PROPERTY
@given(st.text("ab '", min_size=1, max_size=6), st.text("ab '", min_size=1, max_size=6), st.sampled_from(["", "OTHER=1\n", "A='x\ny'\n"]))
def test_a_secret_that_changes_is_seen_to_change_and_no_other(old: str, new: str, others: str) -> None:
    old_line, new_line = f"SECRET=q{old.strip()}x", f"SECRET=q{new.strip()}x"
    before = merge(others, [old_line, "OPEN=1"], SYSTEMD, ()).text
    after = merge(before, [new_line, "OPEN=1"], SYSTEMD, ()).text
    views = [shown(text, {"OPEN=1"}, {new_line}) for text in (before, after)]
    assert (views[0] != views[1]) is (old_line != new_line)
    assert "SECRET=(secret)" in views[1]
    assert old.strip() == "" or not any(f"q{old.strip()}x" in view or f"q{new.strip()}x" in view for view in views)
