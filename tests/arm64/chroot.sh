#!/usr/bin/env bash
# Build covid-edge for 64-bit Arm, test its kernels there and predict, all on an x86-64 Debian:
#
#     sudo PYTHON=.venv/bin/python tests/arm64/chroot.sh FOLDER [SCAN...]
#
# FOLDER becomes a Debian of arm64 (1 GB; kept, so that the next run is quicker), whose programs
# qemu runs. PYTHON is one that covid_edge is installed for, to compare answers with: on the SCANs
# (names must differ), or on the two drawn ones. Needs root, the internet, and debootstrap,
# qemu-user-static and binfmt-support installed.
set -euo pipefail
root="$(realpath -m "${1:?tests/arm64/chroot.sh FOLDER [SCAN...]}")"
here="$(cd "$(dirname "$0")/../.." && pwd)"
python="$(realpath -s "$(command -v "${PYTHON:-python3}")")"

if [ -z "${IN_NAMESPACE:-}" ]; then  # what is mounted below goes when this script ends
    IN_NAMESPACE=1 exec unshare --mount --propagation private "$0" "$@"
fi

scans=("${@:2}")
[ ${#scans[@]} -gt 0 ] || scans=("$here"/examples/{ct,xray}.png)
for scan in "${scans[@]}"; do
    [ -f "$scan" ] || { echo "$scan is no file: name scans"; exit 2; }
done
twice="$(basename -a -- "${scans[@]}" | sort | uniq -d)"
[ -z "$twice" ] || { echo "more than one scan is called $twice"; exit 2; }

# binfmt_misc with the flag F: the kernel holds qemu open, so that a chroot need not contain it.
binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
[ -e $binfmt/qemu-aarch64 ] || update-binfmts --enable qemu-aarch64
grep -q '^flags:.*F' $binfmt/qemu-aarch64

[ -e "$root/usr/bin/python3" ] || debootstrap --arch=arm64 --variant=minbase \
    --include=ca-certificates,gcc,libc6-dev,python3-dev,python3-venv bookworm "$root"

# XNNPACK asks cpuinfo, which reads /sys and /proc/cpuinfo; the host's, of an x86, makes it crash.
# The features are those of the processor that qemu plays, and not its `max`, whose SVE and SME
# compute garbage in qemu 7.2.
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --bind /dev "$root/dev"
for core in 0 1; do
    printf '%s\t: %s\n' processor $core BogoMIPS 50.00 Features \
        'fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc' \
        'CPU implementer' 0x41 'CPU architecture' 8 'CPU variant' 0x4 'CPU part' 0xd0b \
        'CPU revision' 1
    echo
done >"$root/cpuinfo"
mount --bind "$root/cpuinfo" "$root/proc/cpuinfo"

# The host's certificates, which may know a proxy's, under a name that no package overwrites.
cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$root/host-certificates.crt"
on_arm() {
    chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/root LANG=C.UTF-8 \
        QEMU_CPU=cortex-a76 PIP_CERT=/host-certificates.crt SSL_CERT_FILE=/host-certificates.crt \
        PIP_DISABLE_PIP_VERSION_CHECK=1 KERNEL_CASES_DIVIDED_BY="${KERNEL_CASES_DIVIDED_BY:-20}" \
        COVID_EDGE_SIMD="${COVID_EDGE_SIMD:-}" "$@"
}

rm -rf "$root/source"
mkdir "$root/source"
git -C "$here" ls-files -z | (cd "$here" && xargs -0 cp --parents -t "$root/source")

step() { echo "== $SECONDS s: $*"; }
step "building and installing"
on_arm python3 -m venv /venv
on_arm /venv/bin/pip install -q /source hypothesis opencv-python-headless pytest
step "tests"
# Emulation is slow: fewer cases. OpenCV for Arm has other bits where it multiplies and adds, which
# those tests know; the test vectors are the bits of x86.
on_arm /bin/sh -c 'cd /source/tests && exec /venv/bin/python -m pytest -q -p no:cacheprovider \
    kernels vectors/test_vectors.py::test_this_machine_gives_the_vectors'
step "predict"
on_arm /venv/bin/covid-edge info
on_arm /venv/bin/covid-edge predict /source/examples/ct.png /source/examples/xray.png
step "the same scans here and there"
copies="$(mktemp -d "$root/scans.XXXXXX")"
trap 'rm -r "$copies"' EXIT
cp -- "${scans[@]}" "$copies"
on_arm /bin/sh -c 'exec /venv/bin/python /source/tests/arm64/answers.py "$0"/*' \
    "/${copies##*/}" >"$root/there.json"
cd "$root"
"$python" "$here/tests/arm64/answers.py" "$copies"/* >here.json
"$python" "$here/tests/arm64/answers.py" --compare here.json there.json
step "done"
