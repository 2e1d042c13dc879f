# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every option of the module, on this machine with a real server of releases."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import typing as t

import pytest
import yaml
from ansible_collections.metalfleet.gpustack.plugins.module_utils._node.host import Host
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError, GpustackError, HostError
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.releases import parse_lock
from ansible_collections.metalfleet.gpustack.plugins.modules import llama_box_release_info as module
from ansible_collections.metalfleet.gpustack.tests.mirror import archives
from ansible_collections.metalfleet.gpustack.tests.mirror.mirror import Fault, Mirror, make_certificates, running

OLD, NEW = "v0.0.139", "v0.0.171"
MAC, MAC_DL, LINUX = "darwin-arm64-metal", "dl-darwin-arm64-metal", "linux-amd64-avx2"
RESTORE = "restore the lock from version control, or remove it and run the playbook metalfleet.gpustack.lock again"
DEFAULTS = {name: option.get("default") for name, option in yaml.safe_load(module.DOCUMENTATION)["options"].items()}


class ControllerHost(Host):
    """This machine, on which pauses take no time but are counted."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def monotonic(self) -> float:
        return super().monotonic() + sum(self.pauses)


@dataclasses.dataclass
class Controller:
    """A mirror, and a folder for the module to work in."""

    mirror: Mirror
    folder: pathlib.Path
    host: ControllerHost = dataclasses.field(default_factory=ControllerHost)
    warnings: tuple[str, ...] = ()

    def run(self, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
        params = {**DEFAULTS, "base_url": self.mirror.base_url, "versions": [OLD], "platforms": [MAC], "retries": 0, **options}
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        try:
            result, self.warnings = module.run(params, self.host, check_mode, str(work))
        finally:
            # Nothing stays behind, whatever happens.
            assert os.listdir(work) == []
        return result

    def refusal(self, kind: type[GpustackError] = BadInputError, **options: t.Any) -> str:
        with pytest.raises(kind) as caught:
            self.run(**options)
        return str(caught.value)

    def data(self, version: str = OLD, build: str = MAC) -> dict[str, t.Any]:
        return archives.release_data(self.mirror.folder, self.mirror.base_url, version, build)

    def archive(self, version: str = OLD, build: str = MAC) -> pathlib.Path:
        return self.mirror.folder / "gpustack/llama-box/releases/download" / version / archives.archive_name(build)

    def asked(self) -> list[str]:
        return [request.path.rpartition("/releases/download/")[2] for request in self.mirror.seen]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def serve(tmp_path: pathlib.Path, **options: t.Any) -> Mirror:
    folder = tmp_path / "served"
    for version, build in ((OLD, MAC), (OLD, LINUX), (NEW, MAC), (NEW, MAC_DL), (NEW, LINUX)):
        archives.place(folder, version, build)
    return Mirror(folder, **options)


@pytest.fixture
def controller(tmp_path) -> t.Iterator[Controller]:
    with running(serve(tmp_path)) as mirror:
        yield Controller(mirror, tmp_path)


def test_the_documented_options_are_those_of_the_specification():
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert documented.keys() == module.ARGUMENT_SPEC.keys()
    for name, option in documented.items():
        spec = module.ARGUMENT_SPEC[name]
        for key in ("type", "default", "elements", "required"):
            assert option.get(key) == spec.get(key), (name, key)


def test_makes_a_lock(controller):
    result = controller.run(versions=[NEW, OLD], platforms=[MAC])
    assert result == {
        "changed": False,
        "lock": {
            "format": 1,
            "releases": {OLD: {MAC: controller.data()}, NEW: {MAC: controller.data(NEW), MAC_DL: controller.data(NEW, MAC_DL)}},
        },
        "added": [{"version": NEW, "build": MAC}, {"version": NEW, "build": MAC_DL}, {"version": OLD, "build": MAC}],
        "kept": [],
    }
    assert list(result["lock"]["releases"]) == [OLD, NEW]
    assert controller.warnings == ()


def test_takes_exact_builds(controller):
    result = controller.run(versions=[NEW], platforms=[], builds=[MAC_DL])
    assert result["added"] == [{"version": NEW, "build": MAC_DL}]
    assert controller.asked() == [f"{NEW}/dl-llama-box-{MAC}.zip"]


def test_fetches_nothing_that_is_known(controller):
    first = controller.run()
    again = controller.run(known=first["lock"])
    assert again == {"changed": False, "lock": first["lock"], "added": [], "kept": []}
    assert len(controller.mirror.seen) == 1


def test_keeps_what_is_known_and_not_asked_for(controller):
    first = controller.run(platforms=[LINUX])
    second = controller.run(versions=[NEW], platforms=[MAC], known=first["lock"])
    assert second["lock"]["releases"][OLD] == first["lock"]["releases"][OLD]
    assert second["lock"]["releases"][NEW].keys() == {MAC, MAC_DL}


def test_fetches_once_what_is_named_twice(controller):
    assert controller.run(versions=[NEW], platforms=[MAC], builds=[MAC])["added"] == [
        {"version": NEW, "build": MAC},
        {"version": NEW, "build": MAC_DL},
    ]
    assert len(controller.mirror.seen) == 2


def test_warns_of_a_build_that_does_not_exist(controller):
    result = controller.run(versions=[NEW], platforms=[LINUX])
    url = f"{controller.mirror.base_url}/gpustack/llama-box/releases/download/{NEW}/dl-llama-box-linux-amd64-cpu.zip"
    (warning,) = controller.warnings
    assert warning == (f"{url} does not exist (status 404); GPUStack 0.7 cannot be given {NEW} for {LINUX}")
    assert result["added"] == [{"version": NEW, "build": LINUX}]


def test_warns_of_a_static_build_that_does_not_exist(controller):
    controller.archive(NEW).unlink()
    assert controller.run(versions=[NEW])["added"] == [{"version": NEW, "build": MAC_DL}]
    assert controller.warnings[0].endswith(
        f"; GPUStack 0.6, and 0.7 with GPUSTACK_DISABLE_DYNAMIC_LINK_LLAMA_BOX, cannot be given {NEW} for {MAC}"
    )


def test_refuses_a_platform_for_which_there_is_nothing(controller):
    message = controller.refusal(platforms=["linux-arm64-neon"])
    url = f"{controller.mirror.base_url}/gpustack/llama-box/releases/download/{OLD}/llama-box-linux-arm64-neon.zip"
    assert message == (
        f"there is no llama-box {OLD} for linux-arm64-neon: {url} does not exist (status 404); "
        "check the version, the platform and the base URL"
    )
    message = controller.refusal(versions=[NEW], platforms=["linux-arm64-neon"])
    base = f"{controller.mirror.base_url}/gpustack/llama-box/releases/download/{NEW}"
    assert message == (
        f"there is no llama-box {NEW} for linux-arm64-neon: {base}/llama-box-linux-arm64-neon.zip does not exist (status 404), and "
        f"{base}/dl-llama-box-linux-arm64-cpu.zip does not exist (status 404); check the version, the platform and the base URL"
    )


def test_refuses_what_is_no_archive(controller):
    controller.mirror.faults["*"] = [Fault(content="<html>Please log in</html>")]
    assert "is not a zip archive that can be read" in controller.refusal()


def test_takes_archives_from_a_folder(controller, tmp_path):
    folder = tmp_path / "archives"
    (folder / OLD).mkdir(parents=True)
    (folder / OLD / archives.archive_name(MAC)).write_bytes(controller.archive().read_bytes())
    result = controller.run(folder=str(folder))
    assert result["lock"]["releases"] == {OLD: {MAC: controller.data()}}
    assert controller.mirror.seen == []
    assert list(folder.rglob("*.zip")) == [folder / OLD / archives.archive_name(MAC)]


def test_takes_archives_from_a_folder_like_github(controller):
    assert controller.run(folder=str(controller.mirror.folder))["lock"]["releases"] == {OLD: {MAC: controller.data()}}
    assert controller.mirror.seen == []


def test_downloads_nothing_where_there_is_a_folder(controller, tmp_path):
    name = archives.archive_name(MAC)
    assert controller.refusal(folder=str(tmp_path)) == (
        f"there is no llama-box {OLD} for {MAC}: {tmp_path} has neither {OLD}/{name} nor gpustack/llama-box/releases/download/{OLD}/{name}"
        "; put it there, or correct the version or the platform"
    )
    assert controller.mirror.seen == []


def test_compares_a_folder_with_the_lock(controller):
    known = controller.run()["lock"]
    assert controller.run(known=known, folder=str(controller.mirror.folder))["lock"] == known
    controller.archive().write_bytes(b"evil")
    message = controller.refusal(known=known, folder=str(controller.mirror.folder))
    assert message.startswith(f"{controller.archive()} is not the archive of llama-box {OLD} ({MAC}) that the lock names: it has 4 bytes")


def test_keeps_archives(controller, tmp_path):
    kept = tmp_path / "kept"
    paths = [kept / NEW / archives.archive_name(build) for build in (MAC, MAC_DL)]
    first = controller.run(versions=[NEW], archives_folder=str(kept))
    assert (first["changed"], first["kept"]) == (True, [str(path) for path in paths])
    assert [path.read_bytes() for path in paths] == [controller.archive(NEW, build).read_bytes() for build in (MAC, MAC_DL)]
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}
    again = controller.run(versions=[NEW], archives_folder=str(kept), known=first["lock"])
    assert (again["changed"], again["kept"], again["added"]) == (False, [], [])
    assert len(controller.mirror.seen) == 2


def test_fetches_an_archive_that_is_known_but_not_kept(controller, tmp_path):
    known = controller.run()["lock"]
    result = controller.run(known=known, archives_folder=str(tmp_path / "kept"))
    assert (result["changed"], result["added"], len(result["kept"])) == (True, [], 1)


def test_makes_a_lock_of_archives_that_are_kept(controller, tmp_path):
    kept = tmp_path / "kept"
    lock = controller.run(archives_folder=str(kept))["lock"]
    again = controller.run(archives_folder=str(kept))
    assert (again["lock"], again["changed"]) == (lock, False)
    assert len(controller.mirror.seen) == 1


def test_keeps_copies_of_archives_from_a_folder(controller, tmp_path):
    result = controller.run(folder=str(controller.mirror.folder), archives_folder=str(tmp_path / "kept"))
    assert result["kept"] == [f"{tmp_path}/kept/{OLD}/{archives.archive_name(MAC)}"]
    assert pathlib.Path(result["kept"][0]).read_bytes() == controller.archive().read_bytes()


def test_keeps_nothing_in_check_mode(controller, tmp_path):
    result = controller.run(check_mode=True, archives_folder=str(tmp_path / "kept"))
    assert (result["changed"], len(result["kept"])) == (True, 1)
    assert result["lock"]["releases"] == {OLD: {MAC: controller.data()}}
    assert not (tmp_path / "kept").exists()


def test_refuses_a_release_that_was_changed(controller, tmp_path):
    known = controller.run()["lock"]
    content = bytearray(controller.archive().read_bytes())
    content[-30] ^= 1
    controller.archive().write_bytes(content)
    kept = tmp_path / "kept"
    message = controller.refusal(known=known, archives_folder=str(kept))
    assert f" is not the archive of llama-box {OLD} ({MAC}) that the lock names: " in message
    assert hashlib.sha256(content).hexdigest() in message
    assert not kept.exists()
    controller.archive().write_bytes(content + b"more")
    assert f"{len(content)} in the lock, so nothing of it is taken: somebody has tampered" in controller.refusal(
        HostError, known=known, archives_folder=str(kept)
    )


def test_compares_what_is_known_where_it_is_told_to(controller):
    known = controller.run()["lock"]
    assert controller.run(known=known, verify=True)["lock"] == known
    assert len(controller.mirror.seen) == 2
    entry = known["releases"][OLD][MAC]
    good, entry["files"] = entry["files"], {"llama-box": "0" * 64}
    message = controller.refusal(known=known, verify=True)
    assert (
        f" has the sha256 {good['llama-box']}, and not {'0' * 64} as the lock says of llama-box {OLD} ({MAC}); restore the lock" in message
    )
    entry["files"] = good
    entry["sha256"] = "0" * 64
    message = controller.refusal(known=known, verify=True)
    assert message.endswith(
        f"if it is the lock that is wrong, restore the lock from version control, or take out the entry {OLD}/{MAC} and run the playbook "
        "metalfleet.gpustack.lock again"
    )


@pytest.mark.parametrize("known", [None, {}])
def test_a_lock_without_content_is_none_yet(controller, known):
    assert controller.run(known=known)["added"] == [{"version": OLD, "build": MAC}]


def test_refuses_a_kept_archive_that_was_changed(controller, tmp_path):
    kept = tmp_path / "kept"
    known = controller.run(archives_folder=str(kept))["lock"]
    path = kept / OLD / archives.archive_name(MAC)
    path.write_bytes(b"evil")
    assert controller.refusal(known=known, archives_folder=str(kept)).startswith(f"{path} is not the archive of")
    assert path.read_bytes() == b"evil"


def test_says_who_it_is(tmp_path):
    with running(serve(tmp_path, user="fleet:s3cret", token="t0ken")) as mirror:
        controller = Controller(mirror, tmp_path)
        assert "(status 401); give url_username or url_token" in controller.refusal(HostError)
        assert "(status 403)" in controller.refusal(HostError, url_username="fleet", url_password="wrong")
        assert "(status 403)" in controller.refusal(HostError, url_token="wrong")
        controller.run(url_username="fleet", url_password="s3cret")
        controller.run(url_token="t0ken")


def test_trusts_a_ca_of_its_own(tmp_path):
    certificates = make_certificates(tmp_path / "certificates")
    with running(serve(tmp_path, certificates=certificates)) as mirror:
        controller = Controller(mirror, tmp_path)
        assert "certificate is not accepted" in controller.refusal(HostError)
        assert controller.run(ca_path=str(certificates / "ca.pem"))["lock"]["releases"][OLD][MAC]["url"].startswith("https://")


def test_goes_by_the_proxy_unless_told_not_to(controller, monkeypatch):
    with running(Mirror(controller.mirror.folder)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url)
        controller.run()
        assert (len(proxy.seen), len(controller.mirror.seen)) == (1, 0)
        controller.run(use_proxy=False)
        assert (len(proxy.seen), len(controller.mirror.seen)) == (1, 1)


def test_tries_again_as_often_as_told(controller):
    controller.mirror.faults["*"] = [Fault(status=503)] * 2
    assert "status 503" in controller.refusal(HostError, retries=0)
    controller.mirror.faults["*"] = [Fault(status=503)] * 2
    controller.run(retries=2)


def test_waits_as_long_as_told(controller):
    controller.mirror.faults["*"] = [Fault(silence_seconds=1.3)]
    assert "no answer (timed out)" in controller.refusal(HostError, timeout_seconds=1)


def test_takes_no_longer_than_told(controller):
    controller.mirror.faults["*"] = [Fault(status=503, always=True)]
    assert "did not come within 6 seconds" in controller.refusal(HostError, retries=9, deadline_seconds=6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds: 0 is too small; the least is 1"),
        ({"deadline_seconds": 0}, "deadline_seconds: 0 is too small; the least is 1"),
        ({"retries": -1}, "retries: -1 is too small; the least is 0"),
        ({"folder": "archives"}, "folder: archives is relative; write it from / on"),
        ({"archives_folder": "kept"}, "archives_folder: kept is relative; write it from / on"),
        ({"ca_path": "ca.pem"}, "ca_path: ca.pem is relative; write it from / on"),
        ({"versions": []}, "versions: none is named; name at least one, such as v0.0.139"),
        (
            {"known": {"format": 1}},
            f"lock: releases is missing; {RESTORE}",
        ),
        (
            {"known": {"format": 2}, "lock_file": "/fleet/llama_box.lock.yml"},
            f"/fleet/llama_box.lock.yml: releases is missing; {RESTORE}",
        ),
        (
            {"base_url": "ftp://x"},
            "base_url: ftp://x does not begin with https:// or http://; write it like https://mirror.example.com/github",
        ),
    ],
)
def test_refuses_what_cannot_be(controller, options, message):
    assert controller.refusal(**options) == message
    assert controller.mirror.seen == []


def test_writes_what_the_lock_file_can_hold(controller):
    lock = controller.run()["lock"]
    assert parse_lock(yaml.safe_load(yaml.safe_dump(json.loads(json.dumps(lock))))).as_data() == lock


class Exit(Exception):
    """How the module ended."""


class FakeModule:
    """Module, as far as main() knows it."""

    def __init__(self, params: dict[str, t.Any], tmpdir: str) -> None:
        self.params = params
        self.check_mode = False
        self.tmpdir = tmpdir
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def exit_json(self, **result: t.Any) -> None:
        raise Exit("exit", result)

    def fail_json(self, **result: t.Any) -> None:
        raise Exit("fail", result)


def run_main(monkeypatch, controller: Controller, **options: t.Any) -> tuple[tuple[t.Any, ...], FakeModule]:
    params = {**DEFAULTS, "base_url": controller.mirror.base_url, "versions": [NEW], "platforms": [LINUX], **options}
    fake = FakeModule(params, str(controller.folder))
    arguments: dict[str, t.Any] = {}
    monkeypatch.setattr(module, "Module", lambda **given: arguments.update(given) or fake)
    with pytest.raises(Exit) as caught:
        module.main()
    assert arguments["supports_check_mode"] is True
    assert arguments["mutually_exclusive"] == [("url_username", "url_token")]
    assert arguments["required_by"] == {"url_password": "url_username"}
    return caught.value.args, fake


def test_main_returns_result_and_warnings(monkeypatch, controller):
    (how, result), fake = run_main(monkeypatch, controller)
    assert how == "exit"
    assert result["added"] == [{"version": NEW, "build": LINUX}]
    assert len(fake.warnings) == 1


def test_main_fails_with_a_sentence(monkeypatch, controller):
    (how, result), _fake = run_main(monkeypatch, controller, versions=[])
    assert (how, result) == ("fail", {"msg": "versions: none is named; name at least one, such as v0.0.139"})


def test_secrets_are_marked_as_such():
    assert {name for name, option in module.ARGUMENT_SPEC.items() if option.get("no_log")} == {"url_password", "url_token"}
