# SPDX-License-Identifier: Apache-2.0
"""The test vectors, on this machine and, emulated, on others: the same text everywhere.

What they hash is right because the tests in tests/kernels hold the same code to OpenCV. When an
operation joins vectors.c, write its lines with ``./vectors > tests/vectors/vectors.txt``.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

import toolchain
from toolchain import SANITIZERS, run, tool

HERE = Path(__file__).parent
EXPECTED = (HERE / "vectors.txt").read_text()

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="for x86-64 compilers")


def build(compiler: str, program: Path, *flags: str) -> Path:
    every = [*toolchain.sources(), *sorted(HERE.glob("*.c"))]
    base = [*toolchain.shipped_flags(), "-Wall", "-Werror", toolchain.INCLUDE]
    run(tool(compiler), *base, *flags, "-o", program, *every, "-lm")
    return program


def test_this_machine_gives_the_vectors(tmp_path):
    assert run(build("cc", tmp_path / "vectors")) == EXPECTED


def test_no_sanitizer_objects(tmp_path):
    assert run(build("cc", tmp_path / "vectors", *SANITIZERS)) == EXPECTED


def test_clang_gives_the_vectors_and_reads_nothing_unset(tmp_path):
    unset = ["-fsanitize=memory", "-fno-sanitize-recover=all", "-g", "-O1"]
    flags = unset if platform.system() == "Linux" else []
    assert run(build("clang", tmp_path / "vectors", *flags)) == EXPECTED


@pytest.mark.parametrize(
    ("compiler", "emulator"),
    [
        ("aarch64-linux-gnu-gcc", "qemu-aarch64-static"),
        ("arm-linux-gnueabihf-gcc", "qemu-arm-static"),
    ],
)
def test_arm_gives_the_vectors(compiler, emulator, tmp_path):
    program = build(compiler, tmp_path / "vectors", "-static")
    assert run(tool(emulator), program) == EXPECTED


def test_no_sanitizer_objects_on_arm(tmp_path):
    # Not static, as the sanitizers' library is not; and qemu gives the leak check no ptrace.
    program = build("aarch64-linux-gnu-gcc", tmp_path / "vectors", *SANITIZERS)
    command = [tool("qemu-aarch64-static"), "-L", "/usr/aarch64-linux-gnu", program]
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    assert run(*command, env=environment) == EXPECTED


@x86
@pytest.mark.parametrize("processor", ["Opteron_G1", "Haswell", "Haswell,-avx2"])
def test_old_and_newer_x86_give_the_vectors(processor, tmp_path):
    # Opteron_G1, of 2003, is x86-64 and hardly more: an instruction it lacks ends the program.
    program = build("cc", tmp_path / "vectors", "-static")
    assert run(tool("qemu-x86_64-static"), "-cpu", processor, program) == EXPECTED
