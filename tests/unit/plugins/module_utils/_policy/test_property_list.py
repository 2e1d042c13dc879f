# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Property lists: their format, order and other keys survive; what cannot be read is named without being quoted."""

from __future__ import annotations

import datetime
import plistlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.property_list import PropertyList, parse
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY
from hypothesis import given
from hypothesis import strategies as st

PATH = "/Library/LaunchDaemons/ai.gpustack.plist"
# Neither in the order of the alphabet nor all strings.
JOB: t.Dict[str, t.Any] = {
    "Label": "ai.gpustack",
    "EnvironmentVariables": {"Z": "1", "A": " <&> é "},
    "ProgramArguments": ["/x", "start", "--config-file", "/a b"],
    "KeepAlive": True,
    "Number": 2**40,
    "Real": 1.5,
    "Data": b"\0\xff",
    "Date": datetime.datetime(2026, 1, 2, 3, 4, 5),
    "Nested": {"b": [], "a": {}},
}
each_format = pytest.mark.parametrize("is_binary", [False, True])


def encoded(content: t.Any, is_binary: bool) -> bytes:
    return plistlib.dumps(content, fmt=plistlib.FMT_BINARY if is_binary else plistlib.FMT_XML, sort_keys=False)


@each_format
def test_format_order_and_content_survive(is_binary: bool) -> None:
    data = encoded(JOB, is_binary)
    plist = parse(data, PATH)
    assert plist.is_binary is is_binary
    assert plist.content == JOB
    assert plist.encode() == data
    assert plist.environment() == {"Z": "1", "A": " <&> é "}
    changed = plist.with_environment({"B": "2", "A": "1"})
    assert changed.encode() == encoded({**JOB, "EnvironmentVariables": {"B": "2", "A": "1"}}, is_binary)
    assert list(plistlib.loads(changed.encode())) == list(JOB)
    # The first is not touched by what was made of it.
    assert plist.content == JOB


@each_format
def test_an_empty_environment_goes(is_binary: bool) -> None:
    after = parse(encoded(JOB, is_binary), PATH).with_environment({})
    assert "EnvironmentVariables" not in after.content
    assert list(after.content) == [key for key in JOB if key != "EnvironmentVariables"]
    assert after.with_environment({}).content == after.content
    assert after.environment() == {}
    assert after.with_environment({"A": "1"}).environment() == {"A": "1"}


def test_what_is_handed_out_is_a_copy() -> None:
    plist = PropertyList({"EnvironmentVariables": {"A": "1"}}, False)
    environment = plist.environment()
    environment["B"] = "2"
    assert plist.environment() == {"A": "1"}
    wanted = {"C": "3"}
    after = plist.with_environment(wanted)
    wanted["D"] = "4"
    assert after.environment() == {"C": "3"}


@pytest.mark.parametrize("value", ["x", ["A"], 1, None])
def test_an_environment_that_is_none(value: t.Any) -> None:
    assert PropertyList({"EnvironmentVariables": value}, False).environment() == {}


def test_install_sh_without_escaping_is_refused_with_the_place_but_without_the_value() -> None:
    data = encoded(JOB, False).replace(b"&lt;&amp;&gt;", b"s3cr3t&x")
    with pytest.raises(BadInputError) as caught:
        parse(data, PATH)
    message = str(caught.value)
    assert message.startswith(f"{PATH} is not a property list that can be read (not well-formed (invalid token): line ")
    assert message.endswith("); repair it (`plutil -lint` names the line) or run install.sh again")
    assert "s3cr3t" not in message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"bplist00",
        b"bplist00" + b"\xff" * 40,
        b"<plist",
        b"<?xml version='1.0'?><plist><dict><string>s3cr3t</string></dict></plist>",
        b"<?xml version='1.0'?><plist><dict><key>s3cr3t</key></dict></plist>",
        b"<?xml version='1.0'?><plist><dict><key>A</key><integer>s3cr3t</integer></dict></plist>",
        b"<?xml version='1.0'?><plist><dict><key>A</key><date>s3cr3t</date></dict></plist>",
        b"<?xml version='1.0'?><plist><dict><key>A</key><data>s3cr3t</data></dict></plist>",
        b"<?xml version='1.0'?><plist><s3cr3t/></plist>",
        b"<?xml version='1.0' encoding='s3cr3t'?><plist></plist>",
        b"<?xml version='1.0'?><!DOCTYPE plist [<!ENTITY a 's3cr3t'>]><plist><dict/></plist>",
        b"<?xml version='1.0'?><plist></plist>",
        b"<?xml version='1.0'?><plist><key>s3cr3t</key></plist>",
        "<?xml version='1.0'?><plist><dict/></plist>".encode("utf-16")[:-3],
    ],
)
def test_what_is_no_property_list(data: bytes) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(data, PATH)
    assert str(caught.value).startswith(PATH + " ")
    assert "s3cr3t" not in str(caught.value)


def test_other_words_than_those_of_expat_are_not_repeated() -> None:
    with pytest.raises(BadInputError) as caught:
        parse(b"<plist><dict><key>A</key><integer>s3cr3t</integer></dict></plist>", PATH)
    assert str(caught.value) == (
        f"{PATH} is not a property list that can be read (ValueError); repair it (`plutil -lint` names the line) or run install.sh again"
    )


@each_format
@pytest.mark.parametrize("content", [[], "x", 1, True])
def test_a_list_that_is_no_dictionary(content: t.Any, is_binary: bool) -> None:
    with pytest.raises(BadInputError) as caught:
        parse(encoded(content, is_binary), PATH)
    assert str(caught.value) == f"{PATH} holds no dictionary, so it is no launchd job; run install.sh again"


@PROPERTY
@given(st.booleans(), st.data())
def test_no_damage_makes_it_raise_anything_else(is_binary: bool, draw: st.DataObject) -> None:
    data = bytearray(encoded(JOB, is_binary))
    for _damage in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    del data[draw.draw(st.integers(len(data) // 2, len(data))) :]
    try:
        plist = parse(bytes(data), PATH)
    except BadInputError:
        return
    assert isinstance(plist.content, dict)
