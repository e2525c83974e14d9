#!/usr/bin/env bash
# Fuzz the kernels' entry points under AddressSanitizer and UndefinedBehaviorSanitizer:
#
#     tests/fuzz/run.sh SECONDS [TARGET...]
#
# A target is a file of this folder, without .c; all of them if none is named. Needs clang and its
# runtime libraries (Debian: apt-get install clang). Ends with an error at the first finding, whose
# input is kept in the folder FUZZ_KEEP, where the corpus is also kept from run to run.
set -euo pipefail
shopt -s globstar
here="$(cd "$(dirname "$0")" && pwd)"
csrc="$here/../../csrc"
seconds="${1:?tests/fuzz/run.sh SECONDS [TARGET...]}"
shift
[ $# -gt 0 ] || for file in "$here"/*.c; do set -- "$@" "$(basename "$file" .c)"; done

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
# Comparisons are not traced: it takes most of the time, and no input has to be guessed.
compile() {  # SANITIZER ARGUMENT...
    clang -O1 -g -std=c11 -ffp-contract=off -fno-sanitize-recover=all -Wno-pass-failed \
        -fsanitize="$1,address,undefined" -fno-sanitize-coverage=trace-cmp -I"$csrc/include" "${@:2}"
}
objects=()
for source in "$here/../vectors/every_variant.c" "$csrc"/**/*.c; do
    objects+=("$work/${#objects[@]}.o")
    compile fuzzer-no-link -c -o "${objects[-1]}" "$source"
done
for target in "$@"; do
    corpus="${FUZZ_KEEP:-$work}/$target"
    mkdir -p "$corpus"
    compile fuzzer -o "$work/$target.run" "$here/$target.c" "${objects[@]}" -lm
    # A kernel that asks for too much memory must be told so, not killed.
    if ! ASAN_OPTIONS=allocator_may_return_null=1:max_allocation_size_mb=512 \
        "$work/$target.run" "$corpus" \
        -max_total_time="$seconds" -max_len=1024 -len_control=0 -malloc_limit_mb=100000000 \
        -report_slow_units=60 \
        -artifact_prefix="${FUZZ_KEEP:-$PWD}/$target-" -print_final_stats=1 >"$work/log" 2>&1; then
        grep -v '^#' "$work/log" | tail -n 60
        exit 1
    fi
    echo "$target: nothing found"
    grep -E '^#[0-9]+\s+DONE|number_of_executed_units|peak_rss' "$work/log"
done
