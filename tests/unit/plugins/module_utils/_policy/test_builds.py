# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import builds
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.errors import BadInputError


def refusal(function, *arguments) -> str:
    with pytest.raises(BadInputError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize("text", ["v0.0.139", "v0.0.9", "v1.2", "v0.0.140-rc1"])
def test_knows_versions(text):
    assert builds.is_version(text)


@pytest.mark.parametrize(
    "text", ["0.0.139", "v", "v1", "v0.0.139/..", "v0.0.139\n", "v0.0.139-rc", "V0.0.1", "v0..1", "v\u0660.\u0661", "", None, 139]
)
def test_knows_what_is_no_version(text):
    assert not builds.is_version(text)


BUILDS = [
    "darwin-arm64-metal",
    "darwin-amd64-avx2",
    "linux-amd64-cuda-12.4",
    "linux-arm64-cann-8.0.rc2-310p",
    "linux-amd64-musa-rc4.0",
    "dl-darwin-arm64-metal",
    "dl-linux-amd64-cpu",
]


@pytest.mark.parametrize("text", BUILDS)
def test_knows_builds(text):
    assert builds.is_build(text)


@pytest.mark.parametrize(
    "text",
    [
        "darwin-arm64",
        "darwin-arm64-",
        "darwin-arm64-metal-",
        "darwin-arm64-metal/x",
        "darwin-arm64-cuda-..",
        "darwin-arm64-cuda-12.",
        "darwin-arm64-cuda-.4",
        "darwin-arm64-2",
        "dl-dl-darwin-arm64-metal",
        "windows-amd64-avx2",
        "darwin-x86_64-metal",
        "Darwin-arm64-metal",
        "darwin-arm64-metal\n",
        "",
        None,
        7,
    ],
)
def test_knows_what_is_no_build(text):
    assert not builds.is_build(text)


@pytest.mark.parametrize("build", BUILDS)
def test_tells_dynamic_builds(build):
    assert builds.is_dynamic(build) is build.startswith("dl-")


@pytest.mark.parametrize("name", ["llama-box", "libggml-base.dylib", "libstdc++.so.6", "_x", "a" * 255])
def test_knows_names_of_files(name):
    assert builds.is_file_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "a/b", "/a", "..\\a", "C:a", "a b", "a\x00b", "a\n", "ä", "a" * 256, None, 1]
)
def test_knows_what_is_no_name_of_a_file(name):
    assert not builds.is_file_name(name)


@pytest.mark.parametrize(
    ("build", "name"),
    [("darwin-arm64-metal", "llama-box-darwin-arm64-metal.zip"), ("dl-linux-amd64-cuda-12.4", "dl-llama-box-linux-amd64-cuda-12.4.zip")],
)
def test_names_archives_as_github_does(build, name):
    assert builds.archive_name(build) == name


@pytest.mark.parametrize(
    ("version", "platform", "expected"),
    [
        ("v0.0.139", "darwin-arm64-metal", ("darwin-arm64-metal",)),
        ("v0.0.156", "linux-amd64-avx2", ("linux-amd64-avx2",)),
        ("v0.0.157", "linux-amd64-avx2", ("linux-amd64-avx2", "dl-linux-amd64-cpu")),
        ("v0.0.171", "linux-arm64-neon", ("linux-arm64-neon", "dl-linux-arm64-cpu")),
        ("v0.0.171", "linux-arm64-cpu", ("linux-arm64-neon", "dl-linux-arm64-cpu")),
        ("v0.0.171", "linux-amd64-cuda-12.4", ("linux-amd64-cuda-12.4", "dl-linux-amd64-cuda-12.4")),
        ("v0.0.171", "darwin-arm64-metal", ("darwin-arm64-metal", "dl-darwin-arm64-metal")),
        # GPUStack 0.7 would ask for a dynamic one, as it compares versions as text, but there is none.
        ("v0.0.99", "darwin-arm64-metal", ("darwin-arm64-metal",)),
    ],
)
def test_names_every_build_that_a_node_may_need(version, platform, expected):
    assert builds.builds_of_platform(version, platform) == expected


@pytest.mark.parametrize("platform", ["dl-darwin-arm64-metal", "darwin", "", "linux-amd64-../x"])
def test_refuses_what_is_no_platform(platform):
    assert refusal(builds.builds_of_platform, "v0.0.139", platform) == (
        f"platforms: {platform!r} is not a platform; write it like darwin-arm64-metal or linux-amd64-cuda-12.4"
    )


@pytest.mark.parametrize(
    ("system", "machine", "dynamic", "toolkit", "build"),
    [
        ("Darwin", "arm64", False, "metal", "darwin-arm64-metal"),
        ("Darwin", "arm64", True, "metal", "dl-darwin-arm64-metal"),
        ("Darwin", "x86_64", False, "avx2", "darwin-amd64-avx2"),
        ("Darwin", "x86_64", True, "avx2", "dl-darwin-amd64-cpu"),
        ("Darwin", "x86_64", False, "cpu", "darwin-amd64-avx2"),
        ("Darwin", "x86_64", False, "neon", "darwin-amd64-avx2"),
        ("Linux", "x86_64", False, "avx2", "linux-amd64-avx2"),
        ("Linux", "amd64", True, "avx2", "dl-linux-amd64-cpu"),
        ("Linux", "aarch64", False, "neon", "linux-arm64-neon"),
        ("Linux", "arm64", True, "neon", "dl-linux-arm64-cpu"),
        ("Linux", "x86_64", False, "cuda-12.4", "linux-amd64-cuda-12.4"),
        ("Linux", "aarch64", True, "cann-8.0.rc2-310p", "dl-linux-arm64-cann-8.0.rc2-310p"),
    ],
)
def test_names_the_build_of_a_host(system, machine, dynamic, toolkit, build):
    assert builds.build_for(system, machine, dynamic, toolkit) == build


@pytest.mark.parametrize(("system", "machine"), [("Linux", "riscv64"), ("FreeBSD", "amd64"), ("linux", "x86_64")])
def test_refuses_hosts_for_which_there_is_no_build(system, machine):
    message = f"there is no llama-box for {system} on {machine}; take this host out of the play"
    assert refusal(builds.build_for, system, machine, False, "cpu") == message
    assert refusal(builds.toolkit_for, system, machine, None, None) == message


@pytest.mark.parametrize("toolkit", ["", "../x", "CUDA-12.4", "cuda 12.4", "cuda-"])
def test_refuses_what_is_no_toolkit(toolkit):
    assert refusal(builds.build_for, "Linux", "x86_64", False, toolkit) == (
        f"toolkit: {toolkit!r} is not the name of one; write it like cuda-12.4, or leave it auto"
    )


def test_refuses_toolkits_that_no_mac_has():
    assert refusal(builds.build_for, "Darwin", "arm64", False, "cuda-12.4") == (
        "toolkit: cuda-12.4 does not exist on macOS; leave it auto on Macs"
    )


@pytest.mark.parametrize(
    ("build", "toolkit"),
    [
        *[(f"linux-amd64-{known}", "") for known in ("avx2", "cpu", "neon", "cuda-12.4", "cann-8.0.rc2-310p", "hip-6.2", "dtk-24.04")],
        ("dl-linux-arm64-musa-rc4.0", ""),
        ("darwin-arm64-metal", ""),
        ("../x", ""),
        ("linux-amd64-metal", "metal"),
        ("dl-linux-amd64-mettal", "mettal"),
        ("linux-amd64-cuda", "cuda"),
        ("linux-amd64-avx2-1", "avx2-1"),
    ],
)
def test_tells_toolkits_that_gpustack_never_asks_for(build, toolkit):
    assert builds.unknown_toolkit(build) == toolkit


def test_the_toolkits_in_words():
    assert builds.TOOLKITS == "cann, cuda, dtk, hip or musa with a version, such as cuda-12.4, or avx2, neon or cpu"


FOLDER = "llama-box-v0.0.171-linux-amd64"


@pytest.mark.parametrize(
    ("system", "machine", "folder", "device", "toolkit", "reason"),
    [
        ("Darwin", "arm64", None, None, "metal", "Apple Silicon has Metal"),
        ("Darwin", "arm64", None, "cuda", "metal", "Apple Silicon has Metal"),
        ("Darwin", "x86_64", None, "cuda", "avx2", "GPUStack uses the processor of Macs with Intel"),
        ("Linux", "x86_64", None, None, "avx2", "no accelerator was found"),
        ("Linux", "aarch64", None, None, "neon", "no accelerator was found"),
        ("Linux", "x86_64", FOLDER, "cuda", "avx2", f"{FOLDER} is GPUStack's builtin folder"),
        ("Linux", "x86_64", f"{FOLDER}-rocm", None, "hip-6.2", f"{FOLDER}-rocm is GPUStack's builtin folder"),
        ("Linux", "x86_64", f"{FOLDER}-mlu", "cuda", "avx2", f"{FOLDER}-mlu is GPUStack's builtin folder"),
        ("Linux", "aarch64", "llama-box-v0.0.171-linux-arm64-corex", None, "neon", None),
        ("Linux", "x86_64", None, "rocm", "hip-6.2", "rocm is what the host's drivers say"),
        ("Linux", "x86_64", "llama-box", "rocm", "hip-6.2", "rocm is what the host's drivers say"),
        ("Linux", "x86_64", "llama-box", None, "avx2", "no accelerator was found"),
    ],
)
def test_tells_the_toolkit_of_a_host(system, machine, folder, device, toolkit, reason):
    found = builds.toolkit_for(system, machine, folder, device)
    assert found == (toolkit, f"{folder} is GPUStack's builtin folder" if reason is None else reason)


@pytest.mark.parametrize(
    ("folder", "device", "says", "example"),
    [
        (None, "cuda", "cuda is what the host's drivers say", "cuda-12.4"),
        (f"{FOLDER}-cuda", None, f"{FOLDER}-cuda is GPUStack's builtin folder", "cuda-12.4"),
        (f"{FOLDER}-cuda", "rocm", f"{FOLDER}-cuda is GPUStack's builtin folder", "cuda-12.4"),
        (None, "musa", "musa is what the host's drivers say", "musa-rc4.0"),
        (None, "npu", "npu is what the host's drivers say", "cann-8.0"),
        (None, "dcu", "dcu is what the host's drivers say", "dtk-24.04"),
    ],
)
def test_leaves_to_a_person_what_only_a_person_can_tell(folder, device, says, example):
    device = device if folder is None else "cuda"
    assert refusal(builds.toolkit_for, "Linux", "x86_64", folder, device) == (
        f"toolkit: auto cannot tell the build for this host, as its device is {device} ({says}) and the build depends on the version "
        f"installed; say it, such as {example}"
    )


def test_every_example_is_a_toolkit_with_builds():
    for example in (*builds._EXAMPLES.values(), builds._ROCM_TOOLKIT):
        assert builds.is_build(builds.build_for("Linux", "x86_64", False, example))


def test_looks_for_devices_as_gpustack_does():
    assert builds.DEVICE_SIGNS == (
        ("cuda", ("nvidia-smi",), ("/usr/local/cuda",)),
        ("musa", ("mthreads-gmi",), ("/usr/local/musa", "/opt/musa")),
        ("npu", ("npu-smi",), ("/usr/local/Ascend/ascend-toolkit",)),
        ("dcu", ("hy-smi",), ("/opt/dtk",)),
        ("rocm", ("rocm-smi",), ()),
    )
