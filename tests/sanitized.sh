#!/usr/bin/env bash
# Run the tests of the kernels on an extension built with AddressSanitizer and
# UndefinedBehaviorSanitizer, by gcc:
#
#     PYTHON=.venv/bin/python tests/sanitized.sh [PYTEST ARGUMENT...]
#
# The interpreter itself is not built with them, so that the sanitizers' libraries are loaded first.
# What pytest allocates on its way is none of ours: leaks are not looked for here.
set -euo pipefail
here="$(cd "$(dirname "$0")/.." && pwd)"
python="$(realpath -s "$(command -v "${PYTHON:-python3}")")"
build="$(mktemp -d)"
trap 'rm -rf "$build"' EXIT

# From a copy: objects that were built without the flags are not to be met.
mkdir "$build/source"
cp -r "$here"/{LICENSE,README.md,convert,covid_edge,csrc,pyproject.toml,setup.py} "$build/source"
rm -f "$build"/source/covid_edge/_kernels*.so
flags="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
CC=gcc CFLAGS="$flags" LDFLAGS="$flags" "$python" -m pip install -q --no-deps \
    --target "$build/installed" "$build/source"

library() { realpath "$(gcc -print-file-name="$1")"; }
LD_PRELOAD="$(library libasan.so) $(library libubsan.so)"
export LD_PRELOAD ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1
cd "$build/installed"  # comes first on the import path
"$python" -c 'from covid_edge import _kernels; print("testing", _kernels.__file__)'
# What a sanitizer says goes past Python: --capture=sys lets it through.
"$python" -m pytest --capture=sys -p no:cacheprovider -c "$here/pyproject.toml" \
    "$here/tests/kernels" "$@"
