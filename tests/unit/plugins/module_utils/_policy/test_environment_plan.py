# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan: what is written in which order, why the service restarts, what is warned of, and what a diff may show."""

from __future__ import annotations

import dataclasses
import plistlib
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_readers import INSTALL_SH, SYSTEMD, decode, encode
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_plan import fingerprint, make_plan
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.environment_state import (
    Change,
    Desired,
    Observed,
    Plan,
    TextFile,
    Write,
)
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.property_list import PropertyList, parse
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.residency import RESIDENCY_VARIABLE as RESIDENCY
from ansible_collections.metalfleet.gpustack.tests.unit.properties import PROPERTY, file_bytes
from hypothesis import given
from hypothesis import strategies as st

FILE = "/etc/default/gpustack"
PLIST = "/Library/LaunchDaemons/ai.gpustack.plist"
UNIT = "/etc/systemd/system/gpustack.service"
OTHER = "/etc/default/more"
BEGIN = "# BEGIN managed by metalfleet.gpustack"
END = "# END managed by metalfleet.gpustack"
STARTS = "changes, and systemd reads it when the service starts"
LOADED = "changes, and launchd keeps the old environment until the job is loaded anew"
WANTED = Desired({"A": "1", "S": "s3cr3t"}, ("# ours", "A=1", "S=s3cr3t"), frozenset({"S"}))
BLOCK = "# ours\nA=1\nS=s3cr3t\n"
DONE = f"{BEGIN}\n{BLOCK}{END}\n"


def linux(text: t.Optional[str], mode: t.Optional[int] = 0o600, **more: t.Any) -> Observed:
    more.setdefault("read_order", (FILE, *(file.path for file in more.get("other_files", ()))))
    return Observed(SYSTEMD, TextFile(FILE, text, None if text is None else mode), **more)


def mac(text: t.Optional[str], environment: t.Mapping[str, t.Any], mode: int = 0o600, **more: t.Any) -> Observed:
    content: t.Dict[str, t.Any] = {"Label": "ai.gpustack"}
    if environment:
        content["EnvironmentVariables"] = dict(environment)
    plist = PropertyList(content, False)
    file = TextFile(PLIST, decode(plist.encode()), mode)
    return Observed(INSTALL_SH, TextFile(FILE, text, None if text is None else mode), plist_file=file, plist=plist, **more)


def nothing_to_do(plan: Plan) -> bool:
    return not (plan.writes or plan.changes or plan.restart_reasons or plan.unset_manager_variable)


def written_environment(plan: Plan, path: str = PLIST) -> t.Dict[str, t.Any]:
    (data,) = [write.data for write in plan.writes if write.path == path]
    assert data is not None
    return dict(parse(data, path).environment())


@pytest.mark.parametrize("live", [None, {"A": "1", "S": "s3cr3t", "PATH": "/bin"}])
def test_nothing_to_do(live: t.Optional[t.Dict[str, str]]) -> None:
    assert nothing_to_do(make_plan(linux(DONE, live=live), WANTED))
    assert nothing_to_do(make_plan(mac(DONE, {"A": "1", "S": "s3cr3t", "HOME": "/x"}, live=live), WANTED))
    assert nothing_to_do(make_plan(linux(None), Desired()))
    assert nothing_to_do(make_plan(linux("X=1\n"), Desired()))
    assert make_plan(linux(DONE), WANTED).warnings == ()
    assert make_plan(linux(DONE), WANTED).forbidden == {RESIDENCY}
    assert make_plan(linux(DONE), WANTED).wanted == {"A": "1", "S": "s3cr3t"}
    assert make_plan(linux(DONE), dataclasses.replace(WANTED, remove_residency=False)).forbidden == frozenset()


def test_a_new_file() -> None:
    plan = make_plan(linux(None), WANTED)
    assert plan.writes == (
        Write(
            FILE,
            encode(f"{BEGIN} (new file)\n{BLOCK}{END}\n"),
            None,
            0o600,
            "",
            f"{BEGIN} (new file)\n# ours\nA=1\nS=(secret)\n{END}\n",
        ),
    )
    assert plan.changes == (Change("environment_file", FILE, "set", "A"), Change("environment_file", FILE, "set", "S"))
    assert plan.restart_reasons == (f"{FILE} {STARTS}",)
    assert plan.warnings == ()


@pytest.mark.parametrize(
    ("secrets", "mode", "mode_if_new", "warned"),
    [
        (frozenset({"S"}), None, 0o600, False),
        (frozenset(), None, 0o644, False),
        (frozenset({"S"}), 0o644, 0o644, True),
        (frozenset({"S"}), 0o640, 0o640, True),
        (frozenset({"S"}), 0o604, 0o604, True),
        (frozenset({"S"}), 0o611, 0o611, False),
        (frozenset(), 0o640, 0o640, False),
    ],
)
def test_the_mode_of_a_new_file(secrets: t.FrozenSet[str], mode: t.Optional[int], mode_if_new: int, warned: bool) -> None:
    plan = make_plan(linux(None), dataclasses.replace(WANTED, secrets=secrets, mode=mode))
    assert [(write.mode, write.mode_if_new) for write in plan.writes] == [(None, mode_if_new)]
    assert [change.action for change in plan.changes] == ["set", "set"]
    warning = f"{FILE} holds secrets and its mode {mode_if_new:04o} lets others read them; set the option mode to 0600"
    assert plan.warnings == ((warning,) if warned else ())


@pytest.mark.parametrize(
    ("found", "wanted", "written", "warned"),
    [
        (0o600, None, None, None),
        (0o644, None, None, "0644"),
        (0o640, None, None, "0640"),
        (0o644, 0o600, 0o600, None),
        (0o600, 0o644, 0o644, "0644"),
        (0o600, 0o600, None, None),
        (0o600, 0, 0, None),
    ],
)
def test_the_mode_of_a_file_that_is_there(found: int, wanted: t.Optional[int], written: t.Optional[int], warned: t.Optional[str]) -> None:
    plan = make_plan(linux(DONE, found), dataclasses.replace(WANTED, mode=wanted))
    assert [(write.data, write.mode) for write in plan.writes] == ([] if written is None else [(encode(DONE), written)])
    assert list(plan.changes) == ([] if written is None else [Change("environment_file", FILE, "mode", f"{written:04o}")])
    assert plan.restart_reasons == ()
    assert [text for text in plan.warnings if "holds secrets" in text] == (
        [] if warned is None else [f"{FILE} holds secrets and its mode {warned} lets others read them; set the option mode to 0600"]
    )


def test_a_file_that_goes_gets_no_mode() -> None:
    text = f"{BEGIN} (new file)\nA=1\n{END}\n"
    plan = make_plan(linux(text), Desired(mode=0o644, remove_residency=False))
    assert plan.writes == (Write(FILE, None, None, 0o644, f"{BEGIN} (new file)\nA=(not shown)\n{END}\n", ""),)
    assert plan.changes == (Change("environment_file", FILE, "removed", "A"),)
    assert plan.restart_reasons == (f"{FILE} {STARTS}",)
    assert make_plan(mac(text, {}), Desired(mode=0o644)).restart_reasons == ()
    assert nothing_to_do(make_plan(linux(None), Desired(mode=0o644)))


@pytest.mark.parametrize(
    ("before", "restarts"),
    [
        (f"{RESIDENCY}=1\n{DONE}", True),
        # systemd does not take it, so the service never had it.
        (f"export {RESIDENCY}=1\n{DONE}", False),
        # Which systemd runs is not known, so what one of them takes counts.
        (f"# c\\\n{RESIDENCY}=1\n{DONE}", True),
        (f"# c\\\nX='\n{RESIDENCY}=1\n#'\n{DONE}", True),
        (f"# c\\\nexport X='\n{RESIDENCY}=1\n#'\n{DONE}", True),
        (f"{BEGIN}\n# other\nS='s3cr3t'\nA=1\n{END}\n", False),
        (f"A=1\n{BEGIN}\n{BLOCK}{END}\n", False),
        (f"A=2\n{BEGIN}\n{BLOCK}{END}\n", False),
        (f"{BEGIN}\n{BLOCK}{END}\nA=2\n", True),
    ],
)
def test_the_service_restarts_only_for_values(before: str, restarts: bool) -> None:
    plan = make_plan(linux(before), WANTED)
    assert plan.writes
    assert plan.restart_reasons == ((f"{FILE} {STARTS}",) if restarts else ())
    # On a Mac nobody reads the file at start.
    assert make_plan(mac(before, {"A": "1", "S": "s3cr3t"}), WANTED).restart_reasons == ()


def test_a_change_of_comments_only_is_named() -> None:
    plan = make_plan(linux(DONE.replace("# ours", "# older")), WANTED)
    assert plan.changes == (Change("environment_file", FILE, "rewritten", "(our comments and markers)"),)
    assert plan.restart_reasons == ()


def test_refusals_name_the_file() -> None:
    with pytest.raises(BadInputError, match=rf"^{FILE}: line 2 opens a quote"):
        make_plan(linux("X=1\nY='\n"), WANTED)


def test_warnings_of_the_file() -> None:
    plan = make_plan(linux(f"{END}\nX=1 \n{DONE}"), WANTED)
    assert plan.warnings == (
        f"{FILE}: line 1 ends a managed block that has no other end; the marker is taken out and the lines around it are kept",
        f"{FILE}: line 1: its quotes or spaces mean different values to them",
    )


def test_unmanaged_lines_go_when_asked() -> None:
    plan = make_plan(linux(f"X=1\n{DONE}"), dataclasses.replace(WANTED, keep_unmanaged=False))
    assert [write.data for write in plan.writes] == [encode(DONE)]
    assert plan.changes == (Change("environment_file", FILE, "removed", "(a line that is not ours)", 1),)


def test_changes_say_where() -> None:
    (change,) = make_plan(linux(f"X=1\n{RESIDENCY}=1\n"), Desired()).changes
    assert change.as_dict() == {"resource": "environment_file", "where": FILE, "action": "removed", "name": RESIDENCY, "line": 2}


def test_a_diff_in_the_form_of_ansible() -> None:
    (write,) = make_plan(linux(f"X=1\n{RESIDENCY}=1\n"), Desired()).writes
    assert write.as_diff() == {
        "before_header": FILE,
        "after_header": FILE,
        "before": f"X=(not shown)\n{RESIDENCY}=(not shown)\n",
        "after": "X=(not shown)\n",
    }


# The service's own copy.


def test_the_plist_is_written_before_the_file() -> None:
    old = f"{BEGIN}\nGONE=1\nA=0\n{END}\n{RESIDENCY}=1\n"
    environment = {"HOME": "/x", "GONE": "1", "A": "0", RESIDENCY: "1", f"export {RESIDENCY}": "1", "Z": 5}
    plan = make_plan(mac(old, environment), WANTED)
    assert [write.path for write in plan.writes] == [PLIST, FILE]
    assert written_environment(plan) == {"HOME": "/x", "A": "1", "Z": 5, "S": "s3cr3t"}
    assert list(written_environment(plan)) == ["HOME", "A", "Z", "S"]
    assert plan.changes == (
        Change("plist", PLIST, "removed", "GONE"),
        Change("plist", PLIST, "removed", RESIDENCY),
        Change("plist", PLIST, "removed", f"export {RESIDENCY}"),
        Change("plist", PLIST, "set", "A"),
        Change("plist", PLIST, "set", "S"),
        Change("environment_file", FILE, "removed", "GONE"),
        Change("environment_file", FILE, "set", "A"),
        Change("environment_file", FILE, "set", "S"),
        Change("environment_file", FILE, "removed", RESIDENCY, 5),
    )
    assert plan.restart_reasons == (f"{PLIST} {LOADED}",)
    assert plan.writes[0].mode is None
    assert plan.writes[0].shown_before == (
        f"HOME=(not shown)\nGONE=(not shown)\nA=(not shown)\n{RESIDENCY}=(not shown)\nexport {RESIDENCY}=(not shown)\nZ=(not shown)\n"
    )
    assert plan.writes[0].shown_after == "HOME=(not shown)\nA=1\nZ=(not shown)\nS=(secret)\n"
    # Once all is done nothing is left to do.
    after = plan.writes[1].data
    assert after is not None
    assert nothing_to_do(make_plan(mac(decode(after), written_environment(plan)), WANTED))


def test_a_plist_keeps_what_is_not_asked_to_go() -> None:
    environment = {RESIDENCY: "1", "A": "1"}
    assert nothing_to_do(make_plan(mac(None, environment), Desired(remove_residency=False)))
    plan = make_plan(mac(f"{BEGIN}\nA=1\n{END}\n", {"A": "1"}), Desired(remove_residency=False))
    assert written_environment(plan) == {}
    assert b"EnvironmentVariables" not in (plan.writes[0].data or b"")


@pytest.mark.parametrize(("found", "wanted", "written"), [(0o644, 0o600, 0o600), (0o600, 0o600, None), (0o644, None, None), (0o600, 0, 0)])
def test_the_mode_of_a_plist(found: int, wanted: t.Optional[int], written: t.Optional[int]) -> None:
    observed = mac(DONE, {"A": "1", "S": "s3cr3t"}, found)
    plan = make_plan(observed, dataclasses.replace(WANTED, mode=wanted))
    assert [(write.mode, write.mode_if_new, write.data) for write in plan.writes if write.path == PLIST] == (
        [] if written is None else [(written, 0o644, encode((observed.plist_file or observed.main_file).text or ""))]
    )
    assert [change for change in plan.changes if change.resource == "plist"] == (
        [] if written is None else [Change("plist", PLIST, "mode", f"{written:04o}")]
    )
    assert plan.restart_reasons == ()
    warned = [text for text in plan.warnings if text.startswith(PLIST)]
    exposed = f"{PLIST} holds secrets and its mode 0644 lets others read them; set the option mode to 0600"
    assert warned == ([exposed] if found == 0o644 and wanted is None else [])


def test_a_secret_that_changes_in_the_plist_is_seen_and_not_shown() -> None:
    plan = make_plan(mac(DONE, {"A": "1", "S": "older"}), WANTED)
    (write,) = plan.writes
    assert (write.shown_before, write.shown_after) == ("A=1\nS=(not shown)\n", "A=1\nS=(secret)\n")
    assert plan.restart_reasons == (f"{PLIST} {LOADED}",)
    plan = make_plan(mac(DONE, {"A": "0", "S": "s3cr3t"}), WANTED)
    (write,) = plan.writes
    assert (write.shown_before, write.shown_after) == ("A=(not shown)\nS=(secret)\n", "A=1\nS=(secret)\n")


def test_a_plist_that_is_not_there_is_not_made() -> None:
    plan = make_plan(dataclasses.replace(mac(None, {}), plist_file=TextFile(PLIST, None), plist=None), WANTED)
    assert [write.path for write in plan.writes] == [FILE]


def test_keys_that_install_sh_made_of_a_secret_s_lines_are_not_shown() -> None:
    plan = make_plan(mac(None, {"s3cr/3t": "", "A": "0"}), WANTED)
    assert [write.shown_before for write in plan.writes if write.path == PLIST] == ["(a key that is no name)=(not shown)\nA=(not shown)\n"]
    assert written_environment(plan) == {"s3cr/3t": "", "A": "1", "S": "s3cr3t"}


# Other files that systemd reads.


def test_the_variable_goes_from_other_environment_files_and_nothing_else() -> None:
    text = f"{RESIDENCY}=1\nX=1\n{BEGIN} (new file)\nA=5\n{END}\n"
    observed = linux(DONE, other_files=(TextFile(OTHER, text, 0o644), TextFile("/none", None)))
    plan = make_plan(observed, WANTED)
    assert plan.writes == (
        Write(
            OTHER,
            encode(text.partition("\n")[2]),
            None,
            0o644,
            f"{RESIDENCY}=(not shown)\nX=(not shown)\n{BEGIN} (new file)\nA=(not shown)\n{END}\n",
            f"X=(not shown)\n{BEGIN} (new file)\nA=(not shown)\n{END}\n",
        ),
    )
    assert plan.changes == (Change("environment_file", OTHER, "removed", RESIDENCY, 1),)
    assert plan.restart_reasons == (f"{OTHER} {STARTS}",)
    assert nothing_to_do(make_plan(observed, dataclasses.replace(WANTED, remove_residency=False)))
    assert nothing_to_do(make_plan(linux(DONE, other_files=(TextFile(OTHER, "X=1\n"),)), WANTED))


def test_another_file_s_spelling_that_systemd_ignores_restarts_nothing() -> None:
    plan = make_plan(linux(DONE, other_files=(TextFile(OTHER, f"X=1\nexport {RESIDENCY}=1\n"),)), WANTED)
    assert [write.data for write in plan.writes] == [b"X=1\n"]
    assert plan.restart_reasons == ()


def test_files_are_read_as_their_reader_reads_them() -> None:
    text = f"X='\n{RESIDENCY}=1\n'\n"
    assert nothing_to_do(make_plan(linux(text + DONE, other_files=(TextFile(OTHER, text),)), WANTED))
    plan = make_plan(mac(text + DONE, {"A": "1", "S": "s3cr3t"}), WANTED)
    assert [write.data for write in plan.writes] == [encode(f"X='\n'\n{DONE}")]


def test_the_variable_goes_from_the_administrator_s_units() -> None:
    text = f"[Service]\nEnvironment=X=s3cr3t\nEnvironment={RESIDENCY}=1\n"
    for path in (UNIT, "/run/systemd/system/x.service"):
        plan = make_plan(linux(DONE, unit_files=(TextFile(path, text, 0o644), TextFile("/etc/none", None))), WANTED)
        (write,) = plan.writes
        assert write.path == path
        assert (write.mode, write.mode_if_new) == (None, 0o644)
        assert write.data is not None
        assert RESIDENCY.encode() not in write.data
        assert b"Environment=X=s3cr3t\n" in write.data
        assert (write.shown_before, write.shown_after) == (f"line 3: {RESIDENCY}=(not shown)\n", "")
        assert plan.changes == (Change("unit_file", path, "removed", RESIDENCY, 3),)
        assert plan.restart_reasons == (f"{path} {STARTS}",)
        assert plan.warnings == ()


def test_every_line_of_a_unit_that_sets_the_variable_is_told() -> None:
    text = f"[Service]\nEnvironment={RESIDENCY}=1\nEnvironment=X=1\nPassEnvironment={RESIDENCY}\n"
    plan = make_plan(linux(DONE, unit_files=(TextFile(UNIT, text),)), WANTED)
    (write,) = plan.writes
    assert (write.data, write.shown_after) == (b"[Service]\nEnvironment=X=1\n", "")
    assert write.shown_before == f"line 2: {RESIDENCY}=(not shown)\nline 4: {RESIDENCY}=(not shown)\n"
    assert [change.line for change in plan.changes] == [2, 4]


@pytest.mark.parametrize("path", ["/usr/lib/systemd/system/gpustack.service", "/lib/systemd/system/x.service"])
def test_a_package_s_unit_is_only_warned_of(path: str) -> None:
    text = f"[Service]\nEnvironment={RESIDENCY}=1\n"
    plan = make_plan(linux(DONE, unit_files=(TextFile(path, text, 0o644),)), WANTED)
    assert nothing_to_do(plan)
    assert plan.warnings == (
        (
            f"{path}: line 2 sets {RESIDENCY}, but the file belongs to a package;"
            f" add a drop-in with `UnsetEnvironment={RESIDENCY}` or change the package"
        ),
    )
    assert make_plan(linux(DONE, unit_files=(TextFile(path, text),)), Desired(remove_residency=False)).warnings == ()


def test_files_are_written_in_an_order_that_a_crash_survives() -> None:
    # The file last: our old block in it is the only record of what was put elsewhere.
    observed = dataclasses.replace(
        mac(f"{BEGIN}\nGONE=1\n{END}\n", {"GONE": "1"}),
        other_files=(TextFile(OTHER, f"{RESIDENCY}=1\n"),),
        unit_files=(TextFile(UNIT, f"[Service]\nEnvironment={RESIDENCY}=1\n"),),
    )
    plan = make_plan(observed, WANTED)
    assert [write.path for write in plan.writes] == [PLIST, UNIT, OTHER, FILE]
    assert [(change.where, change.name) for change in plan.changes] == [
        (PLIST, "GONE"),
        (PLIST, "A"),
        (PLIST, "S"),
        (UNIT, RESIDENCY),
        (OTHER, RESIDENCY),
        (FILE, "GONE"),
        (FILE, "A"),
        (FILE, "S"),
    ]


# What runs.


@pytest.mark.parametrize(
    ("has_residency", "remove", "unset"), [(True, True, True), (True, False, False), (False, True, False), (None, True, False)]
)
def test_the_manager_s_own_environment(has_residency: t.Optional[bool], remove: bool, unset: bool) -> None:
    plan = make_plan(linux(DONE, manager_has_residency=has_residency), dataclasses.replace(WANTED, remove_residency=remove))
    assert plan.unset_manager_variable is unset
    assert plan.changes == ((Change("manager_environment", "the service manager", "removed", RESIDENCY),) if unset else ())
    assert plan.restart_reasons == ((f"the service manager gives {RESIDENCY} to what it starts",) if unset else ())


@pytest.mark.parametrize(
    ("live", "reasons"),
    [
        ({"A": "1", "S": "s3cr3t"}, []),
        ({"A": "1", "S": "s3cr3t", RESIDENCY: "0"}, [f"the running service still has {RESIDENCY}"]),
        ({"A": "1", "S": "s3cr3t", f"export {RESIDENCY}": ""}, [f"the running service still has {RESIDENCY}"]),
        ({"A": "1", "S": "older"}, ["the running service does not have the wanted value of S"]),
        ({}, ["the running service does not have the wanted value of A, S"]),
        (
            {"A": "", RESIDENCY: "1"},
            [f"the running service still has {RESIDENCY}", "the running service does not have the wanted value of A, S"],
        ),
    ],
)
def test_the_running_service(live: t.Dict[str, str], reasons: t.List[str]) -> None:
    plan = make_plan(linux(DONE, live=live), WANTED)
    assert list(plan.restart_reasons) == reasons
    assert not plan.changes
    without = make_plan(linux(DONE, live=live), dataclasses.replace(WANTED, remove_residency=False))
    assert list(without.restart_reasons) == [reason for reason in reasons if "still has" not in reason]


def test_what_was_not_seen_of_the_running_service_is_not_missing() -> None:
    plan = make_plan(linux(DONE, live={"S": "older", RESIDENCY: "1"}, live_is_complete=False), WANTED)
    assert plan.restart_reasons == (f"the running service still has {RESIDENCY}", "the running service does not have the wanted value of S")
    assert make_plan(linux(DONE, live={"S": "s3cr3t"}, live_is_complete=False), WANTED).restart_reasons == ()


def test_the_diff_of_everything() -> None:
    plan = make_plan(linux(f"{RESIDENCY}=1\n{DONE}", manager_has_residency=True), WANTED)
    file, manager = plan.diffs()
    assert (file["before_header"], manager["before"], manager["after"]) == (FILE, f"{RESIDENCY}=(not shown)\n", "")
    assert manager["before_header"] == manager["after_header"] == "the service manager's environment"
    assert make_plan(linux(DONE), WANTED).diffs() == []


# Of everything.


@PROPERTY
@given(
    file_bytes(b"CANARY/1", b"=CANARY/1\n", b"\nA='CANARY/1\n", b"\n" + RESIDENCY.encode() + b"=CANARY/1\n"), st.booleans(), st.booleans()
)
def test_nothing_that_is_reported_shows_a_value_of_others_or_a_secret(data: bytes, on_linux: bool, keep: bool) -> None:
    text = decode(data)
    desired = dataclasses.replace(WANTED, keep_unmanaged=keep)
    environment = {"X": "CANARY/1", "CANARY/1": "", RESIDENCY: "CANARY/1", "S": "CANARY/1"}
    live = {"S": "CANARY/1", "CANARY/1": "CANARY/1"}
    unit = TextFile(UNIT, f"[Service]\nEnvironment={RESIDENCY}=1 X=CANARY/1\n" + text)
    observed = linux(text, live=live, unit_files=(unit,), other_files=(TextFile(OTHER, text),)) if on_linux else mac(text, environment)
    try:
        plan = make_plan(observed, desired)
        reported = repr((plan.changes, plan.restart_reasons, plan.warnings, plan.diffs()))
    except BadInputError as exc:
        reported = str(exc)
    assert "CANARY" not in reported
    assert "s3cr3t" not in reported


@PROPERTY
@given(file_bytes(b"\nA=", b"\n" + RESIDENCY.encode() + b"=1\n", BEGIN.encode() + b"\n"), st.booleans())
def test_a_plan_that_was_carried_out_leaves_nothing_to_do(data: bytes, on_linux: bool) -> None:
    text = decode(data)
    observed = linux(text) if on_linux else mac(text, {"A": "0", RESIDENCY: ""})
    try:
        plan = make_plan(observed, WANTED)
    except BadInputError:
        return
    written = {write.path: write.data for write in plan.writes}
    after = decode(written.get(FILE) or b"") if FILE in written else text
    environment = plistlib.loads(written[PLIST] or b"")["EnvironmentVariables"] if PLIST in written else {}
    live = {"A": "1", "S": "s3cr3t"}
    assert nothing_to_do(make_plan(linux(after, live=live) if on_linux else mac(after, environment, live=live), WANTED))


UNIT_FILE = TextFile("/etc/systemd/system/gpustack.service", "[Service]\n")


def test_a_unit_that_does_not_read_the_file_blocks_what_is_wanted_and_nothing_else() -> None:
    desired = Desired({"A": "1"}, ("A=1",))
    plan = make_plan(linux(None, read_order=(), unit_files=(UNIT_FILE,), live={}), desired)
    assert plan.blocked == (f"the unit does not read {FILE}; add a drop-in with `EnvironmentFile=-{FILE}`",)
    assert make_plan(linux(None, read_order=(), unit_files=(UNIT_FILE,)), Desired()).blocked == ()
    assert make_plan(linux(None, read_order=()), desired).blocked == ()


def test_a_change_of_a_file_that_the_unit_does_not_read_restarts_nothing() -> None:
    plan = make_plan(linux(f"{RESIDENCY}=1\n", read_order=(OTHER,), other_files=(TextFile(OTHER, ""),)), Desired())
    assert (len(plan.changes), plan.restart_reasons, plan.dropped) == (1, (), ())


@pytest.mark.parametrize(
    ("order", "other", "blocked"),
    [
        ((FILE, OTHER), "A=2\n", True),
        ((OTHER, FILE), "A=2\n", False),
        ((FILE, OTHER), "A=1\n", False),
        ((FILE, OTHER), "B=2\n", False),
        ((OTHER, FILE, OTHER), "A=2\n", True),
        ((FILE, OTHER), None, False),
    ],
)
def test_a_file_that_is_read_later_and_says_something_else_blocks(order: t.Tuple[str, ...], other: t.Optional[str], blocked: bool) -> None:
    observed = linux(None, read_order=order, other_files=(TextFile(OTHER, other),), unit_files=(UNIT_FILE,))
    plan = make_plan(observed, Desired({"A": "1"}, ("A=1",)))
    message = f"{OTHER}, which the unit reads after {FILE}, sets A to something else; take it out there"
    assert plan.blocked == ((message,) if blocked else ())


def test_a_package_unit_that_sets_the_variable_blocks() -> None:
    unit = TextFile("/usr/lib/systemd/system/gpustack.service", f"[Service]\nEnvironment={RESIDENCY}=1\n")
    plan = make_plan(linux(None, unit_files=(unit,)), Desired())
    assert len(plan.blocked) == 1
    assert plan.blocked[0] in plan.warnings
    assert not plan.writes


def test_what_the_service_is_not_given_any_more_is_told() -> None:
    text = f"OTHER=1\n{RESIDENCY}=1\n{BEGIN}\nA=1\nB=2\n{END}\n"
    keep = make_plan(linux(text), Desired({"A": "1"}, ("A=1",)))
    assert keep.dropped == ("B",)
    remove = make_plan(linux(text), Desired({"A": "1"}, ("A=1",), keep_unmanaged=False))
    assert remove.dropped == ("B", "OTHER")
    assert make_plan(mac(text, {"A": "1", "B": "2"}), Desired({"A": "1"}, ("A=1",), keep_unmanaged=False)).dropped == ("B",)


def test_the_fingerprint_tells_every_file() -> None:
    same = [linux("A=1\n", unit_files=(UNIT_FILE,)) for _time in range(2)]
    prints = {fingerprint(one) for one in same}
    assert len(prints) == 1
    others = [
        fingerprint(linux("A=2\n", unit_files=(UNIT_FILE,))),
        fingerprint(linux("A=1\n", unit_files=(TextFile(UNIT_FILE.path, "[Unit]\n"),))),
        fingerprint(linux("A=1\n", unit_files=(UNIT_FILE,), other_files=(TextFile(OTHER, "\udcff"),))),
        fingerprint(mac("A=1\n", {})),
    ]
    assert len({*prints, *others}) == 5
