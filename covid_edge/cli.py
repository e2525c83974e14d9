# SPDX-License-Identifier: Apache-2.0
"""The command line. Nothing else in covid-edge prints, and nothing else ends the process.

Commands import what they need when they run, so that ``--help`` and ``--version`` are quick.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .delegates import DEVICES
from .errors import CovidEdgeError, ScanError
from .report import printable

if TYPE_CHECKING:
    from .predictor import Predictor

__all__ = ["cli", "main"]

EXIT_REFUSED = 4
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

#: A progress bar is shown from this many scans on.
MANY = 10

_EPILOG = """"uncertain" means that both labels remain possible at the bundle's error rate for each
class (`covid-edge info` says which), a promise for scans like those that it was calibrated on, not
for those of other hospitals. The operating points balanced and sensitive always choose a label.

\b
Exit codes:
  0  every scan was answered, "uncertain" included
  2  the command was not understood
  3  a file could not be read (also when others were refused)
  4  a scan was refused: not a chest X-ray or chest CT
  5  the bundle is damaged or wrong
  6  no interpreter or device
"""

_bundle_option = click.option(
    "--bundle", metavar="DIR", help="Folder of the bundle to use instead of the one that ships."
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="covid-edge", message="%(prog)s %(version)s")
def cli() -> None:
    """COVID-19 from chest X-rays and chest CT, on this computer. Research use only."""


@cli.command(epilog=_EPILOG)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_json_option
@_bundle_option
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads of the interpreter.",
)
@click.option(
    "--modality",
    type=click.Choice(["xray", "ct"]),
    help="Take every scan for this, whatever it shows.",
)
@click.option(
    "--device",
    type=click.Choice(list(DEVICES)),
    default="cpu",
    show_default=True,
    help="Only cpu in this version.",
)
@click.option(
    "--operating-point",
    type=click.Choice(["conformal", "balanced", "sensitive"]),
    default="conformal",
    show_default=True,
    help="How a probability becomes a label.",
)
def predict(
    paths: tuple[str, ...],
    as_json: bool,
    bundle: str | None,
    threads: int,
    modality: str | None,
    device: str,
    operating_point: str,
) -> int:
    """Answer on chest scans: one line a scan, written as it is ready.

    PATH is a picture, a folder (searched for pictures to any depth), or - for a list of paths on
    standard input, one a line.
    """
    from .files import find_scans
    from .predictor import Predictor

    with _decoders_silenced():
        predictor = Predictor(bundle, threads, modality, device, operating_point)
        scans: Iterable[str | ScanError] = find_scans(paths, _list_on_stdin(paths))
        if "-" not in paths:  # a list on standard input is answered as it comes
            scans = list(scans)
        click.echo(predictor.bundle.notice, err=True)
        return _answer(predictor, scans, as_json)


@cli.command()
@_json_option
@_bundle_option
def info(as_json: bool, bundle: str | None) -> int:
    """Say what is installed, and check the bundle."""
    from .bundle import Bundle
    from .report import describe, info_text, json_line

    about, problem = describe(Bundle.load(bundle))
    click.echo(json_line(about) if as_json else info_text(about))
    if problem is not None:
        raise problem
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    if hasattr(signal, "SIGPIPE"):
        # End as other Unix programs do when the reader of a pipe has gone: at once and silently.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        return cli.main(arguments, prog_name="covid-edge", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except CovidEdgeError as error:
        _complain(error)
        return error.exit_code
    except click.Abort:  # what click makes of KeyboardInterrupt
        return EXIT_INTERRUPTED
    except OSError as error:  # of stdout: all other files' errors are told where they happen
        # What is left in its buffer cannot be written either: Python shall not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        click.echo(f"covid-edge: the output cannot be written: {error.strerror}", err=True)
        return CovidEdgeError.exit_code


def _list_on_stdin(paths: Sequence[str]) -> Iterable[bytes]:
    return sys.stdin.buffer if "-" in paths and sys.stdin is not None else ()


def _answer(predictor: Predictor, scans: Iterable[str | ScanError], as_json: bool) -> int:
    """Write a line for each scan and return the exit code."""
    from .report import error_record, json_line, text_line

    listed = scans if isinstance(scans, list) else []
    width = max((len(printable(scan)) for scan in listed if isinstance(scan, str)), default=0)
    codes = {0}
    with _progress(len(listed)) as step:
        for scan in scans:
            try:
                if isinstance(scan, ScanError):
                    raise scan
                prediction = predictor.predict(scan)
            except ScanError as error:
                codes.add(error.exit_code)
                if as_json:
                    step(click.echo, json_line(error_record(error, predictor.identity)))
                else:
                    step(_complain, error)
                continue
            if prediction.status == "refused":
                codes.add(EXIT_REFUSED)
            # click.echo flushes each line.
            if as_json:
                step(click.echo, json_line(prediction.to_dict()))
            else:
                step(click.echo, text_line(prediction, width))
    return next(code for code in (ScanError.exit_code, EXIT_REFUSED, 0) if code in codes)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Callable[[Any], None], Any], None]]:
    """Yield what calls ``write(what)`` and counts it, with a bar on stderr if that is of use."""
    if total < MANY or sys.stderr is None or not sys.stderr.isatty():
        yield lambda write, what: write(what)
        return
    with click.progressbar(length=total, label="scans", show_pos=True, file=sys.stderr) as bar:

        def step(write: Callable[[Any], None], what: Any) -> None:
            click.echo("\r\x1b[K", nl=False, err=True)  # clear the bar's line; update redraws it
            write(what)
            bar.update(1)

        yield step


def _complain(error: CovidEdgeError) -> None:
    click.echo(f"covid-edge: {printable(str(error))}", err=True)


@contextmanager
def _decoders_silenced() -> Iterator[None]:
    """Keep remarks of LiteRT, libtiff and Pillow off stderr, which belongs to us meanwhile.

    Native code writes to descriptor 2, past Python (LiteRT: "INFO: Created TensorFlow Lite XNNPACK
    delegate for CPU."), so Python's stderr moves to a copy of it and 2 itself leads nowhere.
    """
    import logging

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    ours = sys.stderr
    try:
        native = ours.fileno() == 2
    except (AttributeError, OSError):  # no stderr, or one that is not a file
        native = False
    if not native:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
        return
    copy = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    with open(copy, "w", encoding=ours.encoding, errors="backslashreplace", buffering=1) as words:
        sys.stderr = words
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            sys.stderr = ours
            os.dup2(copy, 2)
