# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import argparse

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy import estimator

# Names of options, counted in the parsers of GPUStack: what each takes, and since when.
WHOLE = (
    "--main-gpu -mg --parallel-size --parallel -np --batch-size -b --ctx-size -c --gpu-layers-draft --n-gpu-layers-draft -ngld "
    "--ubatch-size -ub --visual-max-image-size --image-batch-count --batch-count --image-max-batch --image-height --height "
    "--image-max-height --image-width --width --image-max-width"
).split()
TEXT = ("--platform-footprint --cache-type-k -ctk --cache-type-v -ctv --split-mode -sm --cache-expiration").split()
SWITCHES = (
    "--flash-attention --flash-attn --diffusion-fa -fa --mmap --no-mmap --no-flash-attention --no-flash-attn --no-diffusion-fa".split()
)
FLAGS = (
    "--no-kv-offload -nkvo --image-autoencoder-tiling --image-vae-tiling --vae-tiling --image-no-autoencoder-tiling --image-no-vae-tiling "
    "--image-free-compute-memory-immediately --image-no-autoencoder-offload --vae-on-cpu --image-no-vae-model-offload "
    "--image-no-conditioner-offload --clip-on-cpu --image-no-text-encoder-model-offload --image-no-control-net-offload --control-net-cpu "
    "--image-no-control-net-model-offload --skip-cache --skip-dns-cache --skip-proxy --skip-range-download-detect --skip-tls-verify"
).split()
SINCE_062 = {"--max-projected-cache": "int", "--visual-max-image-cache": "int", "--swa-full": "flag"}
SINCE_070 = {
    "--rope-freq-base": "float",
    "--rope-freq-scale": "float",
    "--rope-scale": "float",
    "--rope-scaling": "str",
    "--yarn-orig-ctx": "int",
    "--override-tensor": "str",
    "-ot": "str",
}


def parser_of(version: str | None) -> argparse.ArgumentParser:
    parser = estimator.parser_of(version)
    assert parser is not None
    return parser


def problem(version: str | None, *parameters: str) -> str:
    try:
        parser_of(version).parse_known_args(list(parameters))
    except argparse.ArgumentError as exc:
        return str(exc)
    return ""


def kind(version: str, option: str) -> str:
    """What an option takes: tried out."""
    if not problem(version, option):
        return "flag" if problem(version, f"{option}=1") else "unknown"
    assert problem(version, option).endswith("expected one argument")
    if not problem(version, option, "abc"):
        return "str"
    return "int" if problem(version, option, "1.5") else "float"


@pytest.mark.parametrize("version", ["0.6.1", "0.6.2", "0.7.0", "0.7.1"])
def test_what_the_options_take(version: str) -> None:
    assert {kind(version, option) for option in WHOLE} == {"int"}
    assert {kind(version, option) for option in TEXT} == {"str"}
    assert {kind(version, option) for option in SWITCHES + FLAGS} == {"flag"}
    newer = {**SINCE_062, **SINCE_070}
    known = {} if version == "0.6.1" else SINCE_062 if version == "0.6.2" else newer
    assert {option: kind(version, option) for option in newer} == {**dict.fromkeys(newer, "unknown"), **known}


@pytest.mark.parametrize(
    ("version", "like"),
    [
        ("0.6.1rc1", "0.6.1"),
        ("v0.6.1", "0.6.1"),
        ("0.6.2rc2", "0.6.2"),
        ("0.6.9", "0.6.2"),
        ("0.7", "0.7.0"),
        ("0.8.0", "0.7.0"),
        ("0.7.1", "0.7.0"),
        (None, "0.7.0"),
        ("main", "0.7.0"),
        ("0.0.0", "0.7.0"),
        ("1", "0.7.0"),
        ("5", "0.7.0"),
    ],
)
def test_a_version_reads_like_the_release_before_it_and_an_unknown_one_like_the_newest(version: str | None, like: str) -> None:
    assert parser_of(version) is parser_of(like)


def test_the_three_differ() -> None:
    assert len({id(parser_of(version)) for version in ("0.6.1", "0.6.2", "0.7.0")}) == 3


@pytest.mark.parametrize("version", ["0.6.0", "v0.6.0", "0.6", "0.6.0rc1", "0.5.1"])
def test_before_061_there_is_no_parser(version: str) -> None:
    assert estimator.parser_of(version) is None


def test_only_061_takes_abbreviations() -> None:
    assert parser_of("0.6.1").parse_known_args(["--ctx", "5", "--mm"])[0].ctx_size == 5
    assert parser_of("0.6.1").parse_known_args(["--mm"])[0].mmap is True
    assert problem("0.6.1", "--cache-type", "q8_0") == "ambiguous option: --cache-type could match --cache-type-k, --cache-type-v"
    assert parser_of("0.6.2").parse_known_args(["--ctx", "5", "--mm"]) == (
        parser_of("0.6.2").parse_known_args([])[0],
        ["--ctx", "5", "--mm"],
    )


def test_the_last_switch_counts() -> None:
    assert parser_of("0.6.2").parse_known_args(["--no-mmap", "--mmap"])[0].mmap is True
    assert parser_of("0.6.2").parse_known_args(["--mmap", "--no-mmap"])[0].mmap is False
    assert parser_of("0.6.2").parse_known_args(["--vae-tiling", "-nkvo"])[0].no_kv_offload is True


def test_tensors_can_be_overridden_more_than_once() -> None:
    assert parser_of("0.7.0").parse_known_args(["-ot", "a=CPU", "--override-tensor=b=CPU"])[0].override_tensor == ["a=CPU", "b=CPU"]


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_asking_for_help_does_not_end_this_process(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert problem("0.7.1", option) == "argument -h/--help: ends the process of the estimator after it printed its help"
    assert capsys.readouterr() == ("", "")


def test_neither_does_an_ambiguous_option(capsys: pytest.CaptureFixture[str]) -> None:
    # What argparse calls for it before Python 3.13.
    with pytest.raises(argparse.ArgumentError) as caught:
        parser_of("0.7.1").error("synthetic")
    assert str(caught.value) == "synthetic"
    assert problem("0.7.1", "-n", "3") == "ambiguous option: -n could match -np, -ngld, -nkvo"
    assert capsys.readouterr() == ("", "")
