# SPDX-License-Identifier: Apache-2.0
"""``python -m covid_edge``, and what the command ``covid-edge`` starts."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> int:
    """Run the command line; quiet on Ctrl-C even while it is still being imported."""
    # Nothing here multiplies matrices in NumPy, and each thread that its BLAS starts spins first.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # What is imported stays, and scans leave no cycles: seldom looked for, they cost nothing.
    gc.set_threshold(50_000)
    try:
        from . import cli

        return cli.main()
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as a shell reports it


def run() -> NoReturn:
    """Run the command line and end the process, without Python's own tidying up.

    Taking the interpreter apart would cost a twentieth of the time that one scan takes. Files are
    closed where they are written; what is left is to flush what was printed.
    """
    code = main()
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # no stream, a full one, a closed one
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    run()
