# SPDX-License-Identifier: Apache-2.0
"""What the compiler made of the kernels: each variant has its instructions, and only it has.

A guard with a spelling mistake, or a flag too many, changes no pixel: only the machine code tells.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

import toolchain
from covid_edge import _kernels
from toolchain import ROOT, run, tool

# How the instructions of a variant look. A file <operation>_<variant>.c holds that variant.
LOOKS = {
    "avx2": r"%ymm",
    "avx512": r"%zmm",
    "avx512bw": r"%zmm",
    "neon": r"\bv\d+\.(16b|8h|4s|2d)\b",
}

# Anything past the first x86-64 is written with VEX or EVEX: AVX and later names start with v.
BEYOND_X86_64 = re.compile(r"\tv[a-z0-9]+\s.*%[xyz]mm|%[yz]mm")

FUSED = {
    "cc": re.compile(r"\tvf[n]?m(add|sub)"),
    "aarch64-linux-gnu-gcc": re.compile(r"\tf(n?madd|n?msub|mla|mls)\b"),
}

OBJDUMP = {"cc": "objdump", "aarch64-linux-gnu-gcc": "aarch64-linux-gnu-objdump"}
FOLDERS = {"x86_64": "x86", "aarch64": "arm"}

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="for x86-64 compilers")


def functions(listing: str) -> list[tuple[str, str]]:
    """Cut what objdump prints into (name, instructions); GCC cuts functions into parts itself."""
    parts = re.split(r"^[0-9a-f]+ <(.+)>:$", listing, flags=re.MULTILINE)
    code: dict[str, str] = {}
    for name, instructions in zip(parts[1::2], parts[2::2]):
        whole = re.sub(r"\.(part|cold|constprop|isra).*", "", name)
        code[whole] = code.get(whole, "") + instructions
    return list(code.items())


def lacking(looks: str, found: list[tuple[str, str]]) -> list[str]:
    """Return the functions without such an instruction, but not those that only call another."""
    return [name for name, code in found if code.count("\n") > 15 and not re.search(looks, code)]


def disassembled(source: Path, compiler: str, folder: Path) -> list[tuple[str, str]]:
    target = folder / f"{source.stem}.o"
    flags = [*toolchain.shipped_flags(), toolchain.INCLUDE]
    run(tool(compiler), *flags, "-c", "-o", target, source)
    return functions(run(tool(OBJDUMP[compiler]), "-d", target))


def variants_for(folder: str) -> list[Path]:
    return [path for path in toolchain.sources() if path.parent.name == folder]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT / "csrc"))


@x86
@pytest.mark.parametrize("source", variants_for("x86"), ids=name_of)
def test_every_function_of_an_x86_variant_has_its_instructions(source, tmp_path):
    looks = LOOKS[source.stem.rpartition("_")[2]]
    found = disassembled(source, "cc", tmp_path)
    assert found
    assert lacking(looks, found) == []


@pytest.mark.parametrize("source", variants_for("arm"), ids=name_of)
def test_every_function_of_an_arm_variant_has_its_instructions(source, tmp_path):
    found = disassembled(source, "aarch64-linux-gnu-gcc", tmp_path)
    assert found
    assert lacking(LOOKS["neon"], found) == []


@x86
@pytest.mark.parametrize(
    "source", sorted({*toolchain.sources()} - {*variants_for("x86")}), ids=name_of
)
def test_all_else_runs_on_any_x86_64(source, tmp_path):
    found = disassembled(source, "cc", tmp_path)
    assert [name for name, code in found if BEYOND_X86_64.search(code)] == []


@pytest.mark.parametrize("compiler", FUSED)
@pytest.mark.parametrize("source", toolchain.sources(), ids=name_of)
def test_no_multiplication_is_fused_with_an_addition(source, compiler, tmp_path):
    # A fused one rounds once where OpenCV's x86 build rounds twice.
    found = disassembled(source, compiler, tmp_path)
    assert [name for name, code in found if FUSED[compiler].search(code)] == []


@x86
def test_the_extension_holds_what_the_sources_say(tmp_path):
    allowed, looks = set(), set()
    for source in variants_for("x86"):
        allowed |= {name for name, _ in disassembled(source, "cc", tmp_path)}
        looks.add(LOOKS[source.stem.rpartition("_")[2]])
    whole = run(tool("objdump"), "-d", _kernels.__file__)
    assert [look for look in looks if not re.search(look, whole)] == []
    beyond = {name for name, code in functions(whole) if BEYOND_X86_64.search(code)}
    assert beyond <= allowed
