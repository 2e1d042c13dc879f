# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.launchctl import (
    parse_disabled,
    parse_job,
)


@pytest.fixture
def services(fixtures_dir):
    return fixtures_dir / "services"


def test_a_running_job_is_read_from_its_top_level_keys_only(services):
    job = parse_job((services / "synthetic_launchctl_print_gpustack.txt").read_text())
    assert (job.state, job.pid, job.is_running) == ("running", 21802, True)
    assert job.last_exit == "78: EX_CONFIG"
    assert job.exit_timeout_seconds == 20
    assert job.path == "/Library/LaunchDaemons/ai.gpustack.plist"
    assert job.warnings == ()


def test_the_environment_is_that_of_launchd_the_domain_and_the_job_the_job_winning(services):
    job = parse_job((services / "synthetic_launchctl_print_gpustack.txt").read_text())
    assert job.environment_complete
    assert job.environment == {
        "PATH": "/usr/bin:/bin",
        "GGML_METAL_NO_RESIDENCY": "1",
        "HF_ENDPOINT": "https://mirror.example/?a=b => c",
        "OSLogRateLimit": "64",
        "EMPTY": "",
        "EMPTY_AND_TRIMMED": "",
        "SEVERAL": "first\nsecond\n   third => line",
        "export GGML_X": "2",
        "XPC_SERVICE_NAME": "ai.gpustack",
    }
    by_launchd = {"XPC_SERVICE_NAME", "XPC_FLAGS", "OSLogRateLimit", "MallocSpaceEfficient"}
    assert set(job.environment) & by_launchd == {"OSLogRateLimit", "XPC_SERVICE_NAME"}


def test_an_output_that_ends_within_a_block_is_incomplete():
    job = parse_job("system/x = {\n\tstate = running\n\tpid = 1\n\tenvironment = {\n\t\tA => 1\n")
    assert job.environment == {"A": "1"}
    assert not job.environment_complete
    assert job.warnings == ("launchctl print ends within its block `environment`",)


@pytest.mark.parametrize("value", ["1 ", "MAX", ""])
def test_only_the_end_of_the_last_line_is_no_part_of_it(value):
    assert parse_job(f"\tenvironment = {{\n\t\tA => {value}\n").environment == {"A": value}


def test_an_output_that_ends_before_the_jobs_own_block_is_incomplete():
    job = parse_job("system/x = {\n\tstate = running\n\tinherited environment = {\n\t\tA => 1\n\t}\n")
    assert job.environment == {"A": "1"}
    assert not job.environment_complete


def test_a_line_before_the_first_variable_belongs_to_none():
    assert parse_job("\tenvironment = {\nlost\n\t\tA => 1\n\t}\n").environment == {"A": "1"}
    two = "\tinherited environment = {\n\t\tA => 1\n\t}\n\tenvironment = {\nlost\n\t\tB => 2\n\t}\n"
    assert parse_job(two).environment == {"A": "1", "B": "2"}


def test_an_output_without_an_environment_shows_none():
    job = parse_job("system/x = {\n\tstate = not running\n\truns = 0\n}\n")
    assert job.environment is None
    assert not job.environment_complete
    assert not job.is_running


@pytest.mark.parametrize("text", ["", "nonsense\n\t\tstate = running\n", "\x00\t = {"])
def test_garbage_is_told(text):
    job = parse_job(text)
    assert job.state is None
    assert not job.is_running
    assert "launchctl print shows no state" in job.warnings


def test_a_number_that_is_none_is_told():
    job = parse_job("\tstate = running\n\tpid = many\n\texit timeout = 5\n")
    assert job.pid is None
    assert job.warnings == ("launchctl print shows `pid = many`, which is no number",)
    job = parse_job("\tstate = running\n\texit timeout = long\n")
    assert job.exit_timeout_seconds is None
    assert job.warnings == ("launchctl print shows `exit timeout = long`, which is no number",)


@pytest.mark.parametrize(
    ("line", "last_exit"),
    [
        ("last exit code = (never exited)", "(never exited)"),
        ("last exit code = 0", "0"),
        ("last terminating signal = Killed: 9", "Killed: 9"),
        ("last exit reason = JETSAM_REASON_MEMORY_IDLE_EXIT", "JETSAM_REASON_MEMORY_IDLE_EXIT"),
        ("runs = 0", ""),
    ],
)
def test_every_way_to_say_how_it_ended(line, last_exit):
    assert parse_job(f"\tstate = not running\n\t{line}\n").last_exit == last_exit


@pytest.mark.parametrize("release", ["macos12", "macos15"])
def test_overrides_in_both_wordings(services, release):
    disabled = parse_disabled((services / f"synthetic_print_disabled_{release}.txt").read_text())
    assert disabled is not None
    assert disabled["com.apple.ftpd"] is True
    assert disabled["ai.gpustack"] is False
    assert "ai.other" not in disabled


def test_an_output_that_lists_no_overrides_is_not_an_empty_list():
    assert parse_disabled("Could not print disabled services\n") is None
    assert parse_disabled('disabled services = {\n\t"a" => perhaps\n}\n') == {}


RECORDED = {
    "launchctl_print_system_daemon_running.txt": ("running", 893, True),
    "launchctl_print_system_daemon_loaded_not_running.txt": ("not running", None, True),
    "launchctl_print_openclaw_gateway_excerpt.txt": ("running", 21802, False),
}


@pytest.mark.parametrize("name", sorted(RECORDED))
def test_recordings(captures_dir: pathlib.Path, name):
    job = parse_job((captures_dir / "launchctl" / name).read_text())
    state, pid, has_environment = RECORDED[name]
    assert (job.state, job.pid) == (state, pid)
    assert job.exit_timeout_seconds == 5
    assert job.environment_complete is has_environment
    if has_environment:
        assert job.environment is not None
        assert job.environment["XPC_SERVICE_NAME"] == "com.byliu.egress-guard.daemon"
        assert "GGML_METAL_NO_RESIDENCY" not in job.environment
