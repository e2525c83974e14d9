# SPDX-License-Identifier: Apache-2.0
"""The C extension; everything else about the package is in pyproject.toml."""

from __future__ import annotations

import sys
from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

# One set of flags for every machine: an instruction set beyond the baseline is asked for by the
# function that needs it, and a fused multiply-add would change pixels.
UNIX_FLAGS = ["-O3", "-std=c11", "-ffp-contract=off", "-fvisibility=hidden", "-g0"]
FLAGS = ["/O2", "/std:c11", "/fp:precise"] if sys.platform == "win32" else UNIX_FLAGS

kernels = Extension(
    "covid_edge._kernels",
    sources=["covid_edge/_kernels.pyx", *sorted(glob("csrc/**/*.c", recursive=True))],
    include_dirs=["csrc/include"],
    depends=sorted(glob("csrc/**/*.h", recursive=True)),
    extra_compile_args=FLAGS,
    libraries=[] if sys.platform == "win32" else ["m", "pthread"],
)

setup(ext_modules=cythonize([kernels]))
