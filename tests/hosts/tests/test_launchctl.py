# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""launchctl's exit codes and texts, asked for real."""

from __future__ import annotations

import re
import typing as t

import pytest
from conftest import Host, Job, until

STUBBORN = "trap '' TERM; while :; do sleep 0.05; done"


@pytest.mark.parametrize("command", ["print", "kickstart", "kickstart -k"])
def test_not_loaded_is_113(mac: Host, command: str) -> None:
    done = mac.sh(f"launchctl {command} system/no.such")
    first = "Bad request.\n" if command == "print" else ""
    assert (done.returncode, done.stdout, done.stderr) == (113, "", f'{first}Could not find service "no.such" in domain for system\n')


def test_bootout_of_what_is_not_loaded(job: Job) -> None:
    job.write()
    by_label = job.bootout()
    by_path = job.mac.sh(f"launchctl bootout system {job.path}")
    assert (by_label.returncode, by_label.stderr) == (3, "Boot-out failed: 3: No such process\n")
    assert (by_path.returncode, by_path.stderr) == (5, "Boot-out failed: 5: Input/output error\n")


def test_bootstrap_twice_is_5(job: Job) -> None:
    job.write()
    assert job.bootstrap().returncode == 0
    again = job.bootstrap()
    assert (again.returncode, again.stderr) == (5, "Bootstrap failed: 5: Input/output error\n")
    assert len(job.events("spawn")) == 1


def test_bootstrap_by_another_user_hints_at_root(job: Job) -> None:
    job.write()
    done = job.bootstrap(user="fleet")
    assert done.returncode == 5
    assert done.stderr == "Bootstrap failed: 5: Input/output error\nTry re-running the command as root for richer errors.\n"
    assert job.gone()


def test_bootout_by_path_and_by_label(job: Job) -> None:
    job.write()
    for command in (f"launchctl bootout system {job.path}", f"launchctl bootout system/{job.label}"):
        assert job.bootstrap().returncode == 0
        assert job.mac.sh(command).returncode == 0
        assert job.gone()


def test_slow_bootout_returns_36_and_finishes_later(job: Job, knobs: t.Callable[..., None]) -> None:
    knobs(bootout_wait=0.1)
    job.write(STUBBORN, ExitTimeOut=2)
    job.bootstrap()
    done = job.bootout()
    assert (done.returncode, done.stderr) == (36, "Boot-out failed: 36: Operation now in progress\n")
    assert job.print().returncode == 0, "still there while it drains"
    draining = job.bootstrap()
    assert (draining.returncode, draining.stderr) == (5, "Bootstrap failed: 5: Input/output error\n")
    assert until(job.gone)
    assert job.events("exit")[-1]["status"] == -9, "SIGKILL after ExitTimeOut"
    assert job.bootstrap().returncode == 0


def test_draining_can_say_37(job: Job, knobs: t.Callable[..., None]) -> None:
    knobs(bootout_wait=0.1, draining_code=37)
    job.write(STUBBORN, ExitTimeOut=2)
    job.bootstrap()
    job.bootout()
    done = job.bootstrap()
    assert (done.returncode, done.stderr) == (37, "Bootstrap failed: 37: Operation already in progress\n")
    assert until(job.gone)


def test_disabled_is_119_and_outlives_the_plist(job: Job) -> None:
    assert job.mac.sh(f"launchctl disable system/{job.label}").returncode == 0
    assert f'\t"{job.label}" => disabled\n' in job.mac.out("launchctl print-disabled system")
    job.write()
    done = job.bootstrap()
    assert done.returncode == 119
    assert done.stderr == f"{job.path}: Service is disabled\nBootstrap failed: 119: Service is disabled\n"
    job.mac.sh(f"rm {job.path}", check=True)
    job.write()
    assert job.bootstrap().returncode == 119
    assert job.mac.sh(f"launchctl enable system/{job.label}").returncode == 0
    assert job.bootstrap().returncode == 0


def test_disabling_leaves_a_running_job_alone(job: Job) -> None:
    job.write()
    job.bootstrap()
    job.mac.sh(f"launchctl disable system/{job.label}", check=True)
    assert job.shown("state") == "running"


@pytest.mark.parametrize("spoil", ["chmod g+w", "chmod o+w", "chown fleet", "chgrp staff"])
def test_plist_of_wrong_owner_or_mode_is_refused(job: Job, spoil: str) -> None:
    job.write()
    job.mac.sh(f"{spoil} {job.path}", check=True)
    done = job.bootstrap()
    assert (done.returncode, done.stderr) == (5, "Bootstrap failed: 5: Input/output error\n")


@pytest.mark.parametrize(("mode", "code"), [("644", 0), ("664", 5)])
def test_for_a_link_the_target_counts(job: Job, mode: str, code: int) -> None:
    job.write()
    target = f"/Library/Application Support/{job.label}.plist"
    job.mac.sh(f"mv {job.path} '{target}' && chmod {mode} '{target}' && ln -s '{target}' {job.path}", check=True)
    assert job.bootstrap().returncode == code


@pytest.mark.parametrize(
    "content", ["", "<plist", "<plist><dict/></plist>", "<plist><dict><key>Label</key><string>x</string></dict></plist>"]
)
def test_broken_plist_is_5(job: Job, content: str) -> None:
    job.mac.put(job.path, content)
    assert job.bootstrap().returncode == 5


def test_missing_plist_is_5(mac: Host) -> None:
    assert mac.sh("launchctl bootstrap system /Library/LaunchDaemons/none.plist").returncode == 5


def test_legacy_load_and_unload_return_0_whatever_happens(job: Job) -> None:
    job.write()
    unload = job.mac.sh(f"launchctl unload {job.path}")
    assert (unload.returncode, unload.stderr) == (
        0, "Unload failed: 5: Input/output error\nTry running `launchctl bootout` as root for richer errors.\n")  # fmt: skip
    assert job.mac.sh(f"launchctl load {job.path}").stderr == ""
    load = job.mac.sh(f"launchctl load {job.path}")
    assert (load.returncode, load.stderr) == (
        0, "Load failed: 5: Input/output error\nTry running `launchctl bootstrap` as root for richer errors.\n")  # fmt: skip
    assert job.mac.sh(f"launchctl unload {job.path}").stderr == ""
    assert until(job.gone)


def test_print_layout(job: Job) -> None:
    job.write(EnvironmentVariables={"FIRST": "1", "SECOND": "a b"}, StandardOutPath="/var/log/o.log", StandardErrorPath="/var/log/e.log")
    job.bootstrap()
    text = job.print().stdout
    head = ["active count = 1", f"path = {job.path}", "type = LaunchDaemon", "state = running"]
    assert text.startswith(f"system/{job.label} = {{\n\t" + "\n\t".join(head) + "\n\n")
    environment = ["OSLogRateLimit => 64", "FIRST => 1", "SECOND => a b", f"XPC_SERVICE_NAME => {job.label}"]
    assert "\tenvironment = {\n\t\t" + "\n\t\t".join(environment) + "\n\t}\n" in text
    assert "\tdefault environment = {\n\t\tPATH => /usr/bin:/bin:/usr/sbin:/sbin\n\t}\n" in text
    assert "\tstdout path = /var/log/o.log\n\tstderr path = /var/log/e.log\n" in text
    assert "\t\tstate = active\n" in text, "a nested block repeats `state =`"
    assert re.search(r"^\tpid = \d+$", text, re.M)
    assert "\tlast exit code = (never exited)\n" in text
    assert "\truns = 1\n" in text
    assert text.endswith("}\n")
    assert "inherited environment" not in text


def test_pid_and_exit_code_in_print(job: Job) -> None:
    job.write("exit 78", RunAtLoad=False)
    job.bootstrap()
    assert (job.shown("state"), job.shown("pid"), job.shown("last exit code")) == ("not running", None, "(never exited)")
    job.mac.sh(f"launchctl kickstart system/{job.label}", check=True)
    assert until(lambda: job.shown("last exit code") == "78: EX_CONFIG")
    assert job.shown("pid") is None


def test_a_signal_leaves_no_exit_code(job: Job) -> None:
    job.write()
    job.bootstrap()
    assert job.mac.sh(f"launchctl kill SIGKILL system/{job.label}").returncode == 0
    assert until(lambda: job.shown("state") == "not running")
    assert (job.shown("last exit code"), job.shown("last terminating signal")) == (None, "Killed: 9")


def test_forced_codes_come_in_order_then_the_real_thing(job: Job, knobs: t.Callable[..., None]) -> None:
    knobs(return_codes={"bootstrap": [5, 37], "print": [113], "bootout": [36]})
    job.write()
    assert [job.bootstrap().returncode for _time in range(3)] == [5, 37, 0]
    assert [job.print().returncode for _time in range(2)] == [113, 0]
    assert job.bootout().returncode == 36
    assert until(job.gone), "36 means that it is being done"


def test_setenv_reaches_processes_started_later(job: Job) -> None:
    mac = job.mac
    mac.sh("launchctl setenv FLEET_TEST yes", check=True)
    assert mac.out("launchctl getenv FLEET_TEST") == "yes\n"
    job.write()
    job.bootstrap()
    assert "\tinherited environment = {\n\t\tFLEET_TEST => yes\n\t}\n" in job.print().stdout
    assert "FLEET_TEST=yes" in mac.out(f"ps -E -ww -o command= -p {job.shown('pid')}").split()
    mac.sh("launchctl unsetenv FLEET_TEST", check=True)
    assert "FLEET_TEST" in job.print().stdout, "the running process still has it"
    mac.sh(f"launchctl kickstart -k system/{job.label}", check=True)
    assert "FLEET_TEST" not in job.print().stdout
    assert "FLEET_TEST=yes" not in mac.out(f"ps -E -ww -o command= -p {job.shown('pid')}").split()


def test_list(job: Job) -> None:
    job.write()
    job.bootstrap()
    table = job.mac.out("launchctl list").splitlines()
    assert table[0] == "PID\tStatus\tLabel"
    assert f"{job.shown('pid')}\t0\t{job.label}" in table
    assert f'\t"Label" = "{job.label}";' in job.mac.out(f"launchctl list {job.label}")
    assert job.mac.sh("launchctl list no.such").returncode == 113


def test_other_users_may_look_but_not_touch(job: Job) -> None:
    job.write()
    job.bootstrap()
    assert job.mac.sh(f"launchctl print system/{job.label}", user="fleet").returncode == 0
    for command in ("bootout", "kickstart -k", "kill TERM", "disable"):
        assert job.mac.sh(f"launchctl {command} system/{job.label}", user="fleet").returncode == 1
    assert len(job.events("spawn")) == 1
