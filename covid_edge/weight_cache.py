# SPDX-License-Identifier: Apache-2.0
"""Weights packed for this processor, kept in a file for the next process.

XNNPACK rearranges a network's weights before it computes, and keeps the copy in memory. Of a large
network that takes most of a process's start, so it is done once for a file, a LiteRT and a kind of
processor; later processes map what the first has written.

Such a file is data that native code trusts. It lies in a folder that nobody else may write to, is
named after all that it was made from and after its own XXH3, and is checked against that before
each use: a torn or damaged one is not used. Where any of this cannot be had, there is no cache and
nothing is said, since the plain interpreter gives the same answers.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

from .bundle import ModelFile, file_digest
from .interpreter import CachedInterpreter, runtime_build

__all__ = ["cached_interpreter"]

SMALLEST = 16 << 20  # bytes of a file for which loading what writes and reads a cache pays
KEPT = 4  # files: of two networks, as they are and as they were before the last update

_SUFFIX = ".xnnpack"
_PART = "part-"

# What kernels are chosen by, among the lines of this file; others change while the machine runs.
_CPUINFO = "/proc/cpuinfo"
_KIND = {
    *("vendor_id", "cpu family", "model", "model name", "stepping", "flags"),
    *("CPU implementer", "CPU architecture", "CPU variant", "CPU part", "CPU revision", "Features"),
}


def cached_interpreter(model: ModelFile, threads: int) -> CachedInterpreter | None:
    """Load a network with the weights that were packed for it, or keep them for the next time.

    The folder is ``COVID_EDGE_CACHE`` (empty: none), or ``covid-edge`` in the user's cache.

    Parameters
    ----------
    model : ModelFile
        A file that has been checked.
    threads : int
        Threads of the interpreter.

    Returns
    -------
    CachedInterpreter or None
        None where there can be no cache, or none pays.
    """
    if model.bytes < SMALLEST:
        return None
    try:
        folder = _private_folder()
        if folder is None:
            return None
        key = _key(model)
        weights = _find(folder, key)
        if weights is not None:
            return CachedInterpreter(model.path, threads, weights)
        return _made(folder, key, model, threads)
    except Exception:  # Whatever it is, the network itself may still be fine, or else say what not.
        return None


def _private_folder() -> str | None:
    """Return the cache's folder, made if need be; None if there is none that is ours alone."""
    folder = os.environ.get("COVID_EDGE_CACHE")
    if folder is None:
        folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        folder = os.path.join(folder, "covid-edge")
    if not os.path.isabs(folder):  # empty, or of a user without a home
        return None
    os.makedirs(folder, mode=0o700, exist_ok=True)
    about = os.lstat(folder)
    ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid()
    return folder if ours and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) else None


def _key(model: ModelFile) -> str:
    """Return what stands for the network, the LiteRT and the kind of processor."""
    import xxhash

    with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
        lines = file.read(1 << 15).splitlines()  # enough to meet every kind of core
    kind = sorted({line for line in lines if line.partition(":")[0].strip() in _KIND})
    made_from = "\n".join([model.sha256, runtime_build(), *kind])
    return xxhash.xxh3_128_hexdigest(made_from.encode())


def _find(folder: str, key: str) -> str | None:
    """Return the file of that key that is whole; remove any that is not."""
    for name in os.listdir(folder):
        if name.startswith(key) and name.endswith(_SUFFIX):
            path = os.path.join(folder, name)
            if name == _name(key, path):
                return path
            os.unlink(path)
    return None


def _name(key: str, path: str) -> str:
    import xxhash

    return f"{key}-{file_digest(path, xxhash.xxh3_128())}{_SUFFIX}"


def _made(folder: str, key: str, model: ModelFile, threads: int) -> CachedInterpreter | None:
    """Load the network and write the file that the next process finds."""
    import shutil
    import tempfile

    if shutil.disk_usage(folder).free < 8 * model.bytes:
        return None
    # It is mapped from then on, so that it may move but not change.
    with tempfile.TemporaryDirectory(prefix=_PART, dir=folder) as part:
        weights = os.path.join(part, "weights")
        network = CachedInterpreter(model.path, threads, weights)
        os.chmod(weights, stat.S_IRUSR)
        os.replace(weights, os.path.join(folder, _name(key, weights)))
    _tidy(folder)
    return network


def _tidy(folder: str) -> None:
    """Remove all but the newest files, and what processes that were killed have left."""
    import shutil

    paths = [os.path.join(folder, name) for name in os.listdir(folder)]
    with suppress(OSError):  # another process tidies too
        whole = [path for path in paths if path.endswith(_SUFFIX)]
        for path in sorted(whole, key=os.path.getmtime, reverse=True)[KEPT:]:
            os.unlink(path)
        for path in paths:
            left = os.path.basename(path).startswith(_PART)
            if left and time.time() - os.path.getmtime(path) > 3600:
                shutil.rmtree(path, ignore_errors=True)
