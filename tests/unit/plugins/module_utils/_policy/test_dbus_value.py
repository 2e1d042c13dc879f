# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.dbus_value import parse_variant
from ansible_collections.metalfleet.gpustack.tests.unit.bus_recordings import RECORDINGS, Recording
from ansible_collections.metalfleet.gpustack.tests.unit.fake_bus import variant
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
VALUES = st.one_of(
    st.tuples(st.just("s"), TEXTS),
    st.tuples(st.just("b"), st.booleans()),
    st.tuples(st.just("y"), st.integers(0, 2**8 - 1)),
    st.tuples(st.just("i"), st.integers(-(2**31), 2**31 - 1)),
    st.tuples(st.just("u"), st.integers(0, 2**32 - 1)),
    st.tuples(st.just("t"), st.integers(0, 2**64 - 1)),
    st.tuples(st.just("ay"), st.binary(max_size=20)),
    st.tuples(st.just("as"), st.lists(TEXTS, max_size=4)),
    st.tuples(st.just("a(sb)"), st.lists(st.tuples(TEXTS, st.booleans()), max_size=4)),
)


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
def test_what_systemd_has_replied(recording: Recording) -> None:
    """Of a unit with two drop-ins, and a manager to which variables were given."""
    unit, service, manager = ([parse_variant(reply) for reply in replies] for replies in recording.replies())
    assert unit[:5] == ["loaded", "active", "running", "enabled", "/etc/systemd/system/gpustack.service"]
    assert unit[5] == [f"/etc/systemd/system/gpustack.service.d/{name}.conf" for name in ("a b", "c")]
    assert f"InvocationID={unit[6].hex()}\n" in recording.show
    assert f"MainPID={service[0]}\n" in recording.show
    assert f"ExecMainStartTimestampMonotonic={service[1]}\n" in recording.show
    assert service[2:] == [[("/etc/default/gpustack", True), ("/etc/default/two words", True)], "success", 0]
    assert manager[0][2:] == ["QUOTED=it's $x", "TOLD=two words"]


def test_the_example_of_the_specification() -> None:
    """An array of one integer of eight bytes is padded before its first element; a variant begins with its signature."""
    assert parse_variant(b"\2as\0" + variant("as", ["x"])[4:]) == ["x"]
    assert parse_variant(variant("a(sb)", [("a", True)])) == [("a", True)]
    assert variant("a(sb)", [("a", True)])[:16] == b"\5a(sb)\0\0" + (12).to_bytes(4, "little") + bytes(4)


@PROPERTY
@given(VALUES)
def test_what_is_written_is_read(value: tuple[str, t.Any]) -> None:
    assert parse_variant(variant(*value)) == value[1]


@PROPERTY
@given(VALUES, st.binary(min_size=1, max_size=3))
def test_no_part_of_a_variant_is_one(value: tuple[str, t.Any], more: bytes) -> None:
    whole = variant(*value)
    for data in (*(whole[:size] for size in range(len(whole))), whole + more):
        with pytest.raises(ValueError, match="D-Bus"):
            parse_variant(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1d\0\0\0\0\0\0" + bytes(8),
        b"\0\0",
        # No type, and two.
        bytes(9),
        b"\2so\0\1\0\0\0x\0",
        b"\1\xff\0",
        b"\2av\0" + b"\4\0\0\0" + b"\1y\0\7",
        # A string, and an array, that say that they are longer than they are.
        b"\1s\0\0" + b"\xff\xff\xff\xff" + b"x\0",
        b"\2ay\0" + b"\xff\xff\xff\xff" + b"x",
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="D-Bus"):
        parse_variant(data)


@PROPERTY
@given(st.binary(max_size=40), st.sampled_from(["s", "b", "ay", "as", "a(sb)", "t", "aas", "a", "("]))
def test_whatever_comes_is_read_or_refused(data: bytes, signature: str) -> None:
    try:
        parse_variant(bytes((len(signature),)) + signature.encode() + b"\0" + data)
    except ValueError:
        return
