# SPDX-License-Identifier: Apache-2.0
"""Weights packed for this processor, kept in a file for the next process.

XNNPACK rearranges a network's weights before it computes, and keeps the copy in memory. Of a large
network that takes longer than an answer, so it is done once for a file, a LiteRT and a kind of
processor; later processes map what the first has written.

Such a file is data that native code trusts. It lies in a folder that nobody else may write to, is
named after all that it was made from and after its own XXH3, and is checked against that before
each use. LiteRT ends the process if it cannot write, so it writes to memory, and what is copied
from there has no name before it is whole. Where any of this cannot be had, there is no cache and
nothing is said, since the plain interpreter gives the same answers.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress

from .bundle import ModelFile, file_digest
from .interpreter import CachedInterpreter, runtime_build

__all__ = ["cached_interpreter"]

SMALLEST = 16 << 20  # bytes of a file for which loading what writes and reads a cache pays
KEPT = 4  # files: of two networks, as they are and as they were before the last update

_NAME = re.compile(r"[0-9a-f]{32}-[0-9a-f]{32}\.xnnpack")

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
        key = _key(model)
        folder = _private_folder()
        if folder is None:
            return None
        weights = _find(folder, key)
        if weights is not None:
            return CachedInterpreter(model.path, threads, weights)
        return _made(folder, key, model, threads)
    except Exception:  # Whatever it is, the network itself may still be fine, or else say what not.
        return None


def _key(model: ModelFile) -> str:
    """Return what stands for the network, the LiteRT and the kind of processor."""
    import xxhash

    with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
        # So much tells every kind of core; the last line may be cut.
        lines = file.read(1 << 15).splitlines()[:-1]
    kind = sorted({line for line in lines if line.partition(":")[0].strip() in _KIND})
    made_from = "\n".join([model.sha256, runtime_build(), *kind])
    return xxhash.xxh3_128_hexdigest(made_from.encode())


def _private_folder() -> str | None:
    """Return the cache's folder, made if need be; None if there is none that is ours alone."""
    folder = os.environ.get("COVID_EDGE_CACHE")
    if folder is None:
        home = os.path.expanduser("~")
        # Under sudo it may be another user's, who could not use what root puts there.
        if os.stat(home).st_uid != os.geteuid():
            return None
        folder = os.path.join(os.environ.get("XDG_CACHE_HOME") or f"{home}/.cache", "covid-edge")
    if not os.path.isabs(folder):
        return None
    folder = os.path.normpath(folder)  # or a slash at its end would follow a link
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return folder if stat.S_ISDIR(_ours(folder)) else None


def _ours(path: str) -> int:
    """Return the mode of what nobody but us may write to, else 0; of a link, not where it leads."""
    about = os.lstat(path)
    open_to_others = about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return about.st_mode if about.st_uid == os.geteuid() and not open_to_others else 0


def _entries(folder: str) -> list[str]:
    """Return the paths of the files that are named as a cache's are, and ours."""
    paths = [os.path.join(folder, name) for name in os.listdir(folder) if _NAME.fullmatch(name)]
    return [path for path in paths if stat.S_ISREG(_ours(path))]


def _find(folder: str, key: str) -> str | None:
    """Return the file of that key that is whole; remove any that is not."""
    for path in _entries(folder):
        name = os.path.basename(path)
        if name.startswith(key):
            if name == _name(key, path):
                return path
            os.unlink(path)
    return None


def _name(key: str, path: str) -> str:
    import xxhash

    return f"{key}-{file_digest(path, xxhash.xxh3_128())}.xnnpack"


def _made(folder: str, key: str, model: ModelFile, threads: int) -> CachedInterpreter:
    """Load the network and, if possible, write the file that the next process finds."""
    memory = os.memfd_create("covid-edge-weights")
    try:
        os.ftruncate(memory, 2 * model.bytes)  # fails where files may not be as long as that
        os.ftruncate(memory, 0)
        weights = f"/proc/self/fd/{memory}"
        network = CachedInterpreter(model.path, threads, weights)
        with suppress(OSError):
            _keep(memory, os.path.join(folder, _name(key, weights)))
            _tidy(folder)
        return network
    finally:
        os.close(memory)


def _keep(memory: int, path: str) -> None:
    """Copy a file in memory to one that has no name until it is whole."""
    folder = os.path.dirname(path)
    file = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o400)
    try:
        size, begin = os.fstat(memory).st_size, 0
        while begin < size:
            begin += os.sendfile(file, memory, begin, size - begin)
        directory = os.open(folder, os.O_DIRECTORY)
        try:  # With a folder given, Python calls linkat, which alone can do this.
            os.link(f"/proc/self/fd/{file}", path, src_dir_fd=directory, follow_symlinks=True)
        finally:
            os.close(directory)
    finally:
        os.close(file)


def _tidy(folder: str) -> None:
    """Remove all but the newest files."""
    for path in sorted(_entries(folder), key=os.path.getmtime, reverse=True)[KEPT:]:
        os.unlink(path)
