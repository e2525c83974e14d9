# SPDX-License-Identifier: Apache-2.0
"""Builds the kernels without Python, with the flags of setup.py or others."""

from __future__ import annotations

import ast
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CSRC = ROOT / "csrc"
INCLUDE = f"-I{CSRC / 'include'}"

SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"]


def shipped_flags() -> list[str]:
    """Return what setup.py compiles the kernels with."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "UNIX_FLAGS":
            return ast.literal_eval(node.value)
    raise AssertionError("setup.py has no UNIX_FLAGS")


def sources() -> list[Path]:
    """Return the C files of the kernels."""
    return sorted(CSRC.rglob("*.c"))


def tool(name: str) -> str:
    """Return the path of a program, or skip the test."""
    return shutil.which(name) or pytest.skip(f"there is no {name} here")


def run(*command: object, **options: object) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **options,
    )
    assert done.returncode == 0, f"{command[0]}: {done.returncode}\n{done.stderr[-4000:]}"
    return done.stdout
