# SPDX-License-Identifier: Apache-2.0
"""``python -m covid_edge``, and what the command ``covid-edge`` starts."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; quiet on Ctrl-C even while it is still being imported."""
    try:
        from . import cli

        return cli.main()
    except KeyboardInterrupt:
        return 130  # 128 + SIGINT, as a shell reports it


if __name__ == "__main__":
    sys.exit(main())
