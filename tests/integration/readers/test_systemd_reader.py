# Copyright: (c) 2026, The metalfleet.gpustack contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The model of systemd's reader against real systemd.

READERS_HOST_COMMAND is the beginning of a command that runs the shell command behind it as root on a host whose process 1
is systemd, with standard input and output handed through, such as `tests/hosts/hosts ssh SESSION NAME --`. All that is
written there is /envtest and the unit envtest@.service below /run; both are removed in the end.

One template unit is started for each of some hundred files in a single systemctl call; each instance keeps the environment
that it was given, which must be what read_systemd() says. Files come from a fixed seed (READERS_SEED for another one,
READERS_FILES for another number), and by hand.
"""

from __future__ import annotations

import io
import os
import random
import re
import shlex
import subprocess
import tarfile
import typing as t

import pytest
from ansible_collections.metalfleet.gpustack.plugins.module_utils._policy.env_readers import decode, encode, read_systemd

COMMAND = shlex.split(os.environ.get("READERS_HOST_COMMAND", ""))
SEED = int(os.environ.get("READERS_SEED", "1907"))
RANDOM_FILES = int(os.environ.get("READERS_FILES", "400"))

pytestmark = pytest.mark.skipif(not COMMAND, reason="READERS_HOST_COMMAND names no host with systemd")

UNIT = """\
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
EnvironmentFile=-/envtest/in/%i
ExecStart=/bin/cp /proc/self/environ /envtest/out/%i
"""

BY_HAND = (
    b"",
    b"\n",
    b"A=1",
    b"A=1\n",
    b"A=",
    b"A\nB=1\n",
    b"A\rB=1\n",
    b"\t A \t=\t 1 \t\n",
    b"A=1 \t",
    b"A=1\nA=2\nB=1\nA=3\n",
    b"A=x=y=\n=1\n=1=2\n",
    b"# A=1\n;B=1\n  # C=1\nD=1 # no comment\nE=#1\nF#=1\n",
    b"A=1\r\nB=2\r\n",
    b"A=1\rB=2\n# x\rC=1\n",
    b"A='x y'\nB=\"x y\"\nC=x\"y\"'z'\nD='x'\"y\"z\nE='x' 'y'\nF='x'  y z \nG=' x '\nH=''\n",
    b"A=' x '",
    b"A='x\ny'\nB=1\n",
    b'A="x\r\ny"\nB=1\n',
    b"A='x\nB=1\n",
    b'A="x\nB=1\n',
    b"A='x  ",
    b"A=x\\y\nB=\\x\nC=\\\\x\nD=x\\\ny\nE=x\\ \nF=x\\  \nG=x  \\y\n",
    b"A=x\\\r\nB=1\n",
    b"A=\\\n'x'\n",
    b"A=x\\",
    b"A=x \\",
    b"A='x\\y'\nB='x\\'\nC=\"\\\"\\\\\\`\\$\\x\\'\"\nD=\"x\\\ny\"\n",
    b'A="x\\\ry"\n',
    b'A="x\\',
    b'A="x\\"\nB=1\n',
    b"export A=1\n1A=1\n_A1z=1\na=2\nA.B=1\nA-B=1\n\xc3\x84=1\nA\tB=1\n",
    b"\xef\xbb\xbfA=1\nB=1\n",
    b"A=1\x0cB=2\xe2\x80\xa8C=3\xc2\x85\x1c\nD=\x0c1\x0b \n",
    b"\x0cA=1\nB=\x01\x7f\n",
    b"# x\\\nA=1\nB=2\n",
    b"; x\\\nA=1\nB=2\n",
    b"# x\\\rA=1\rB=2\n",
    b"# x\\\r\nA=1\nB=2\n",
    b"# x\\\\\nA=1\n",
    b"# x\\y\nA=1\n",
    b"# x\\\n\nA=1\n",
    b"# x\\",
    b"# c\\\nA='\nB=1\n",
    b"A=1\nB=\xff\n",
    b"A=1\nB\xff=1\n",
    b"A=1\nB=\xed\xa0\x80\n",
    b"A=1\nB=\xc0\xaf\n",
    b"A=1\nB=\xef\xbf\xbe\n",
    b"A=1\nB=\xef\xb7\x90\n",
    b"A=1\nB=\xf0\x9f\xbf\xbf\n",
    b"A=1\nB=\xef\xbf\xbd\n",
    b"A=1\n# \xff\n;\xff\n\xff\n",
    b"A=1\n#\0\n",
    b"A=1\n\0",
    b"A='\xc3'\xa9\nB=1\n",
    b'A="\xc3""\xa9"\n',
    b"A=\xc3\\\n\xa9\nB=\xc3\\\xa9\n",
    b"A=%b%%i$HOME${HOME}`x`$(x)\n",
    b"GGML_METAL_NO_RESIDENCY=0\nexport GGML_METAL_NO_RESIDENCY=1\n",
    b"A=" + b"x" * 100_000 + b"\nB=1\n",
)
PIECES = (
    *(
        b"A",
        b"B",
        b"C=",
        b"\nA=",
        b"\nB=",
        b"\nC='",
        b'\nD="',
        b"=",
        b"=",
        b'"',
        b'"',
        b"'",
        b"'",
        b"\\",
        b"\\",
        b"\n",
        b"\n",
        b"\r",
        b"\r\n",
    ),
    *(
        b" ",
        b" ",
        b"\t",
        b"#",
        b"\n# ",
        b"\n;",
        b";",
        b"$",
        b"`",
        b"%i",
        b"x",
        b"y ",
        b"\xc3\xa9",
        b"\xe2\x80\xa8",
        b"\x0c",
        b"\x7f",
        b"export ",
    ),
)
BROKEN_PIECES = (b"\xc3", b"\xa9", b"\xff", b"\xef\xbf\xbf", b"\xed\xa0\x80", b"\0")


def random_files() -> t.Iterator[bytes]:
    rng = random.Random(SEED)
    for _number in range(RANDOM_FILES):
        pieces = rng.choices(PIECES, k=rng.randrange(2, 40))
        if rng.random() < 0.15:
            pieces[rng.randrange(len(pieces))] = rng.choice(BROKEN_PIECES)
        yield b"".join(pieces)


def on_host(command: str, data: bytes = b"") -> bytes:
    return subprocess.run([*COMMAND, command], input=data, stdout=subprocess.PIPE, check=True, timeout=600).stdout


def packed(files: t.Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def unpacked(data: bytes) -> t.Dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(member.name, archive.extractfile(member)) for member in archive if member.isfile()]
        return {os.path.basename(name): file.read() for name, file in members if file is not None}


def parse_environ(data: bytes) -> t.Dict[bytes, bytes]:
    return {name: value for name, _equals, value in (item.partition(b"=") for item in data.split(b"\0") if item)}


def test_systemd_gives_to_a_service_what_the_model_reads() -> None:
    match = re.match(rb"systemd (\d+)", on_host("systemctl --version"))
    assert match is not None
    version = int(match.group(1))
    files = [*BY_HAND, *random_files()]
    names = [str(number) for number in range(len(files))]
    archive = packed({"envtest@.service": UNIT.encode(), **{f"in/{name}": data for name, data in zip(names, files)}, "out/.keep": b""})
    try:
        on_host(
            "mkdir -p /envtest /run/systemd/system && tar -xf - -C /envtest"
            " && mv /envtest/envtest@.service /run/systemd/system/ && systemctl daemon-reload",
            archive,
        )
        # `none` has no file: what it is given is systemd's own.
        on_host("systemctl start envtest@none.service " + " ".join(f"envtest@{name}.service" for name in names))
        dumps = unpacked(on_host("tar -cf - -C /envtest out"))
    finally:
        on_host("rm -rf /envtest /run/systemd/system/envtest@.service; systemctl daemon-reload; systemctl reset-failed 'envtest@*' || true")
    own = set(parse_environ(dumps["none"]))
    assert not own & {b"A", b"B", b"C", b"D"}
    wrong = []
    counted = 0
    for name, data in zip(names, files):
        seen = {key: value for key, value in parse_environ(dumps[name]).items() if key not in own}
        reading = read_systemd(decode(data), comment_continues=version < 254)
        model = {encode(key): encode(value) for key, value in reading.variables().items()}
        counted += len(seen)
        if seen != model:
            wrong.append(f"{data!r}\n  systemd {version}: {seen!r}\n  model: {model!r}")
    assert not wrong, f"{len(wrong)} of {len(files)} files:\n" + "\n".join(wrong[:10])
    # The comparison has compared something.
    assert counted > len(files) / 2
    print(f"systemd {version}: {len(files)} files, {counted} variables, seed {SEED}")
