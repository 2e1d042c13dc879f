# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: (c) 2026, The metalfleet.gpustack contributors
"""What launchd does with a loaded job over time."""

from __future__ import annotations

import typing as t

from conftest import DAEMONS, Host, Job, until


def test_run_at_load_false_waits_for_kickstart(job: Job) -> None:
    job.write(RunAtLoad=False)
    assert job.bootstrap().returncode == 0
    assert (job.shown("state"), job.events("spawn")) == ("not running", [])
    done = job.mac.sh(f"launchctl kickstart -p system/{job.label}")
    assert (done.returncode, done.stdout) == (0, f"service spawned with pid: {job.shown('pid')}\n")
    assert job.shown("state") == "running"


def test_keep_alive_restarts_are_counted_on_the_host(job: Job, knobs: t.Callable[..., None]) -> None:
    knobs(throttle_interval=0.2)
    job.write("exit 3", KeepAlive=True)
    job.bootstrap()
    assert until(lambda: len(job.events("spawn")) >= 3)
    spawns, exits = job.events("spawn"), job.events("exit")
    assert [event["runs"] for event in spawns] == list(range(1, len(spawns) + 1))
    assert {event["status"] for event in exits} == {3}
    assert all(later["time"] - earlier["time"] >= 0.15 for earlier, later in zip(spawns, spawns[1:])), "throttled"
    assert job.shown("last exit code") == "3"


def test_throttle_interval_of_the_plist_counts(job: Job, knobs: t.Callable[..., None]) -> None:
    knobs(throttle_interval=0.1)
    job.write("exit 0", KeepAlive=True, ThrottleInterval=60)
    job.bootstrap()
    assert until(lambda: job.shown("state") == "spawn scheduled")
    assert (job.shown("minimum runtime"), len(job.events("spawn"))) == ("60", 1)


def test_default_minimum_runtime_is_ten_seconds(job: Job) -> None:
    job.write()
    job.bootstrap()
    assert (job.shown("minimum runtime"), job.shown("exit timeout")) == ("10", "5")


def test_keep_alive_alone_may_wait_for_kickstart(job: Job, knobs: t.Callable[..., None]) -> None:
    job.write(RunAtLoad=False, KeepAlive=True)
    job.bootstrap()
    assert job.shown("state") == "running"
    assert job.bootout().returncode == 0
    knobs(keep_alive_starts_at_load=False)
    job.bootstrap()
    assert job.shown("state") == "not running"


def test_keep_alive_while_unsuccessful(job: Job, knobs: t.Callable[..., None]) -> None:
    knobs(throttle_interval=0.1)
    job.write("test -e /var/done && exit 0; touch /var/done; exit 1", RunAtLoad=False, KeepAlive={"SuccessfulExit": False})
    job.bootstrap()
    assert until(lambda: [event["status"] for event in job.events("exit")] == [1, 0])
    assert job.shown("state") == "not running"
    job.mac.sh("rm /var/done", check=True)


def test_old_environment_is_kept_until_bootout(job: Job) -> None:
    mac = job.mac
    job.write(EnvironmentVariables={"GGML_METAL_NO_RESIDENCY": "1"})
    job.bootstrap()
    job.write()
    mac.sh(f"launchctl kickstart -k system/{job.label}", check=True)
    assert "\t\tGGML_METAL_NO_RESIDENCY => 1\n" in job.print().stdout
    assert "GGML_METAL_NO_RESIDENCY=1" in mac.out(f"ps -E -ww -o command= -p {job.shown('pid')}")
    assert job.bootout().returncode == 0
    assert until(job.gone)
    job.bootstrap()
    assert "GGML_METAL_NO_RESIDENCY" not in job.print().stdout
    assert "GGML_METAL_NO_RESIDENCY" not in mac.out(f"ps -E -ww -o command= -p {job.shown('pid')}")
    assert len(job.events("spawn")) == 3
    assert ["GGML_METAL_NO_RESIDENCY" in event["env"] for event in job.events("spawn")] == [True, True, False]


def test_output_and_working_directory(job: Job) -> None:
    log = f"/var/log/{job.label}.log"
    job.write("pwd; echo oops >&2; echo $GREETING", WorkingDirectory="/private", StandardOutPath=log, StandardErrorPath=log,
              EnvironmentVariables={"GREETING": "hello"})  # fmt: skip
    job.bootstrap()
    assert until(lambda: job.shown("last exit code") == "0")
    assert sorted(job.mac.out(f"cat {log}").split()) == ["/private", "hello", "oops"]


def test_a_program_that_is_not_there_is_ex_config(job: Job) -> None:
    job.write(ProgramArguments=["/opt/none"])
    assert job.bootstrap().returncode == 0
    assert until(lambda: job.shown("last exit code") == "78: EX_CONFIG")


def test_user_name(job: Job) -> None:
    job.write(UserName="fleet")
    job.bootstrap()
    assert job.mac.out(f"ps -o user= -p {job.shown('pid')}").strip() == "fleet"
    assert job.shown("username") == "fleet"


def test_children_of_a_job_go_with_it(job: Job) -> None:
    job.write("sleep 4321 & exec sleep 1000")
    job.bootstrap()
    assert until(lambda: "sleep 4321" in job.mac.out("ps -A -ww -o command="))
    job.bootout()
    assert until(lambda: "sleep 4321" not in job.mac.out("ps -A -ww -o command="))


def test_a_job_sees_the_linux_below_and_nothing_says_so(job: Job) -> None:
    log = f"/var/log/{job.label}.log"
    job.write("uname -s; test -d /proc/self && echo proc; exec sleep 1000", StandardOutPath=log)
    job.bootstrap()
    assert until(lambda: job.mac.out(f"cat {log}").split() == ["Linux", "proc"])
    assert job.mac.out("uname -s; ls -A /proc").split() == ["Darwin"]
    assert "REAL_UNAME" not in job.print().stdout + job.mac.out(f"ps -E -ww -o command= -p {job.shown('pid')}")


def test_a_daemon_may_set_the_wired_limit(job: Job) -> None:
    log = f"/var/log/{job.label}.log"
    job.write(ProgramArguments=["/usr/sbin/sysctl", "iogpu.wired_limit_mb=5000"], StandardOutPath=log)
    job.bootstrap()
    assert until(lambda: job.mac.out("sysctl -n iogpu.wired_limit_mb") == "5000\n")
    assert job.mac.out(f"cat {log}") == "iogpu.wired_limit_mb: 0 -> 5000\n"


def test_reboot_loads_what_is_enabled_and_forgets_sysctl(mac: Host, job: Job) -> None:
    job.write()
    job.bootstrap()
    off = Job(mac, job.label + ".off")
    off.write()
    mac.sh(f"launchctl disable system/{off.label}; sysctl iogpu.wired_limit_mb=9000; launchctl setenv GONE 1", check=True)
    before = mac.out("sysctl -n kern.boottime")
    mac.sh("nohup shutdown -r now >/dev/null 2>&1 &")
    assert until(lambda: mac.sh("sysctl -n kern.boottime").stdout not in ("", before), 30.0)
    assert (job.shown("state"), off.gone()) == ("running", True)
    assert mac.out("sysctl -n iogpu.wired_limit_mb; launchctl getenv GONE; true") == "0\n"
    mac.sh(f"launchctl enable system/{off.label}; rm {DAEMONS}/{off.label}.plist", check=True)
