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
from .errors import CovidEdgeError, ScanError, UsageError
from .report import printable

if TYPE_CHECKING:
    from .files import Source
    from .page import Page
    from .predictor import Prediction, Predictor
    from .study import Study
    from .table import Table

__all__ = ["cli", "main"]

EXIT_REFUSED = 4
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as a shell reports it

#: A progress bar is shown from this many scans on.
MANY = 10

_EPILOG = """"uncertain" means that both labels remain possible at the bundle's error rate for each
class (`covid-edge info` says which), a promise for scans like those that it was calibrated on, not
for those of other hospitals. The operating points balanced and sensitive always choose a label.

The files of --csv and --report take their names when they are complete. What a run that is broken
off has answered is in FILE.part, in whole rows and sections.

\b
Exit codes:
  0  every scan was answered, "uncertain" included
  1  the output cannot be written
  2  the command was not understood
  3  a file could not be read (also when others were refused)
  4  a scan was refused: not a chest X-ray or chest CT, or one that cannot be judged
  5  the bundle is damaged or wrong
  6  no interpreter or device
  7  the cluster cannot be reached, or lost a scan
"""

_BENCH_EPILOG = """\b
Exit codes:
  0  timed; with --compare, nothing takes more than 1.25 times as long (what takes less than 0.8
     times is marked as faster: the baseline is out of date)
  1  the report cannot be written
  2  the command was not understood, or there is no such baseline
  5  the bundle is damaged or wrong
  6  no interpreter or device
  8  slower than the baseline
"""

_bundle_option = click.option(
    "--bundle",
    metavar="NAME|DIR",
    help="Another bundle than mmtl: the name of one that ships, or a folder.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


class _Window(click.ParamType):
    """Center and width, as ``-600/1500`` or ``-600,1500``."""

    name = "CENTER/WIDTH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, float]:
        if isinstance(value, tuple):
            return value
        try:
            center, width = map(float, value.replace(",", "/").split("/"))
        except ValueError:
            self.fail(f"{value!r} is not a center and a width, such as -600/1500", param, ctx)
        if not (abs(center) < float("inf") and 1 <= width < float("inf")):
            self.fail(f"{value!r}: a width is at least 1", param, ctx)
        return center, width


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
    help="Threads of the interpreter, for each scan in work.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Scans in work at a time.  [default: the cores, divided by --threads; all of a cluster]",
)
@click.option(
    "--executor",
    metavar="dask://HOST:PORT",
    help="Let a Dask cluster answer, whose workers see the same files.",
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
    help="Where the networks run; auto: the quickest that works.",
)
@click.option(
    "--delegate",
    metavar="PATH",
    help="Library through which the gpu or the edgetpu is used, instead of the usual one.",
)
@click.option(
    "--operating-point",
    type=click.Choice(["conformal", "balanced", "sensitive"]),
    default="conformal",
    show_default=True,
    help="How a probability becomes a label.",
)
@click.option("--csv", metavar="FILE", help="Write a table too: a row for each scan.")
@click.option("--report", metavar="FILE", help="Write a page too, to read in a browser or print.")
@click.option(
    "--frame",
    type=click.IntRange(min=1),
    help="Answer on this frame alone of each DICOM file.  [default: all]",
)
@click.option(
    "--window",
    type=_Window(),
    help="Look at DICOM files at this center and width, whatever they say: -600/1500 for lungs in "
    "CT.",
)
@click.option(
    "--include-ids",
    is_flag=True,
    help="Show the paths of DICOM files, and with --json the IDs and UIDs in them.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Answer also on scans that are clipped, turned, blurred or unlike those learned from.",
)
@click.option(
    "--heatmap",
    "heatmap_dir",
    metavar="DIR",
    help="Write to DIR a PNG of each scan that shows what speaks for and against COVID.",
)
def predict(
    paths: tuple[str, ...],
    as_json: bool,
    bundle: str | None,
    threads: int,
    workers: int | None,
    executor: str | None,
    modality: str | None,
    device: str,
    delegate: str | None,
    operating_point: str,
    csv: str | None,
    report: str | None,
    frame: int | None,
    window: tuple[float, float] | None,
    include_ids: bool,
    force: bool,
    heatmap_dir: str | None,
) -> int:
    """Answer on chest scans: one line a scan, written as it is ready.

    PATH is a picture, a folder (searched for pictures to any depth), or - for a list of paths on
    standard input, one a line. DICOM files are called by their place among the answers, since names
    may be those of patients. CT slices of one series are answered in the order of their positions,
    and then together, unless they came in a list.
    """
    from .files import Source, find_scans, name_scans
    from .predictor import Predictor

    settings = {
        "bundle": bundle,
        "threads": threads,
        "modality": modality,
        "device": device,
        "delegate": delegate,
        "operating_point": operating_point,
        "window": window,
        "include_ids": include_ids,
        "force": force,
        "heatmap": None if report else False,  # a page shows it, if there is one
        "heatmap_dir": heatmap_dir and os.path.abspath(heatmap_dir),
    }
    here = {"device": "cpu", "delegate": None} if executor else {}
    with _decoders_silenced():
        # A cluster's workers look for the device where they are.
        predictor = Predictor(**{**settings, **here})
        found = find_scans(paths, _list_on_stdin(paths))
        # A list on standard input is answered as it comes, so no series is looked for in it.
        listed = "-" not in paths
        scans: Iterable[Source | ScanError] = name_scans(found, frame, include_ids, sort=listed)
        if listed:
            scans = list(scans)
        if device == "auto" and not executor:
            settings["device"] = predictor.device
            click.echo(f"device: {predictor.device}", err=True)
        click.echo(predictor.bundle.notice, err=True)
        if executor is not None:
            outcomes = _elsewhere(executor, scans, workers, settings)
        elif workers == 1 or (isinstance(scans, list) and len(scans) == 1):
            outcomes = _one_by_one(predictor, scans)
        else:
            from .many import predict_many

            outcomes = predict_many(scans, workers=workers, **settings)
        with _written(predictor, csv, report, window) as files:
            if not listed or any(isinstance(scan, Source) and scan.series for scan in scans):
                from .study import sum_up

                outcomes = sum_up(outcomes, predictor.bundle)
            outcomes = _written_too(outcomes, files)
            return _answer(predictor.identity, scans, outcomes, as_json)


@cli.command()
@_json_option
@_bundle_option
def info(as_json: bool, bundle: str | None) -> int:
    """Say what is installed, and check the bundle."""
    from .bundle import Bundle
    from .report import describe, info_text, json_line

    with _decoders_silenced():
        about, problem = describe(Bundle.load(bundle))
    click.echo(json_line(about) if as_json else info_text(about))
    if problem is not None:
        raise problem
    return 0


@cli.command(epilog=_BENCH_EPILOG)
@_json_option
@_bundle_option
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=lambda: os.cpu_count() or 1,
    show_default="all cores",
    help="Time interpreters of 1, 2, 4... up to this many threads.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Answers of each kind that count.",
)
@click.option("--compare", metavar="FILE", help="Compare with a report that --save wrote.")
@click.option("--save", metavar="FILE", help="Write the report, to be a baseline.")
def bench(
    as_json: bool,
    bundle: str | None,
    threads: int,
    rounds: int,
    compare: str | None,
    save: str | None,
) -> int:
    """Time answers on this computer.

    Each stage and the whole, of a new process and of one that has answered before, on a drawn scan.
    Two reports of one board can be compared even if its other work slowed it down: what counts is
    the ratio to a fixed workload timed between the scans. Where FILE is a folder, the file in it
    that is named after this board is meant.
    """
    from . import bench
    from .bundle import Bundle
    from .report import json_line

    against = bench.report_file(compare) if compare else None
    baseline = bench.load(against) if against else None  # before the long part
    with _decoders_silenced():
        report = bench.measure(Bundle.load(bundle), threads, rounds)
    found = bench.changes(report, baseline) if baseline else None
    if as_json:
        click.echo(json_line(report if found is None else {**report, "changes": found}))
    else:
        click.echo(bench.report_text(report, found))
    if baseline and baseline["board"] != report["board"]:
        click.echo(f"The baseline is of another board: {baseline['board']}.", err=True)
    if save:
        bench.save(report, bench.report_file(save))
    if found is not None:
        bench.judge(found, against)
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


def _one_by_one(
    predictor: Predictor, scans: Iterable[Source | ScanError]
) -> Iterator[Prediction | ScanError]:
    predictor.weight_cache = True
    for scan in scans:
        try:
            yield scan if isinstance(scan, ScanError) else predictor.predict(scan)
        except ScanError as error:
            yield error


def _elsewhere(
    address: str, scans: Iterable[Source | ScanError], workers: int | None, settings: dict[str, Any]
) -> Iterator[Prediction | ScanError]:
    from .cluster import PATIENCE, connect
    from .many import predict_many

    with connect(address) as (executor, all_of_them):
        workers = workers or all_of_them
        yield from predict_many(scans, executor, workers=workers, timeout=PATIENCE, **settings)


def _answer(
    bundle: dict[str, str],
    scans: Iterable[Source | ScanError],
    outcomes: Iterable[Prediction | ScanError | Study],
    as_json: bool,
) -> int:
    """Write a line for each of `outcomes`, those of `scans`, and return the exit code."""
    from .report import json_line, record, study_line, text_line

    listed = scans if isinstance(scans, list) else []
    found = [scan for scan in listed if not isinstance(scan, ScanError)]
    names = [str(scan) for scan in found]
    names += [f"series {scan.series.number}" for scan in found if scan.series]
    width = max((len(printable(name)) for name in names), default=0)
    codes = {0}
    with _progress(len(listed)) as step:
        for outcome in outcomes:
            failed = isinstance(outcome, ScanError)
            together = not failed and outcome.status == "series"
            if failed:
                codes.add(outcome.exit_code)
            elif outcome.status == "refused":
                codes.add(EXIT_REFUSED)
            # click.echo flushes each line.
            if as_json:
                step(click.echo, json_line(record(outcome, bundle)), not together)
            elif failed:
                step(_complain, outcome)
            elif together:
                step(click.echo, study_line(outcome, width), False)
            else:
                step(click.echo, text_line(outcome, width))
    return next(code for code in (ScanError.exit_code, EXIT_REFUSED, 0) if code in codes)


@contextmanager
def _written(
    predictor: Predictor,
    csv: str | None,
    report: str | None,
    window: tuple[float, float] | None,
) -> Iterator[list[Table | Page]]:
    """Yield the files of --csv and --report; say where the answers are if the run is broken off."""
    if csv and report and os.path.realpath(csv) == os.path.realpath(report):
        raise UsageError(f"--csv and --report are one file: {csv}")
    files: list[Table | Page] = []
    try:
        if csv is not None:
            from .table import Table

            files.append(Table(csv, predictor.identity))
        if report is not None:
            from .page import Page

            files.append(Page(report, predictor.bundle, window))
        yield files
        for file in files:
            file.finish()
    except BaseException:
        for kept in filter(None, [file.stop() for file in files]):
            words = f"covid-edge: not finished; what was answered is in {printable(kept)}"
            click.echo(words, err=True)
        raise


def _written_too(
    outcomes: Iterable[Prediction | ScanError | Study], files: Iterable[Table | Page]
) -> Iterator[Prediction | ScanError | Study]:
    for outcome in outcomes:
        for file in files:  # before it is shown: they shall never know less than has been seen
            file.add(outcome)
        yield outcome


@contextmanager
def _progress(total: int) -> Iterator[Callable[..., None]]:
    """Yield what calls ``write(what)`` and counts it, with a bar on stderr if that is of use."""
    if total < MANY or sys.stderr is None or not sys.stderr.isatty():
        yield lambda write, what, counts=True: write(what)
        return
    with click.progressbar(length=total, label="scans", show_pos=True, file=sys.stderr) as bar:

        def step(write: Callable[[Any], None], what: Any, counts: bool = True) -> None:
            click.echo("\r\x1b[K", nl=False, err=True)  # clear the bar's line; update redraws it
            write(what)
            bar.update(int(counts))

        yield step


def _complain(error: CovidEdgeError) -> None:
    click.echo(f"covid-edge: {printable(str(error))}", err=True)


@contextmanager
def _decoders_silenced() -> Iterator[None]:
    """Keep remarks of LiteRT, libtiff and Pillow off stdout and stderr, ours meanwhile."""
    import logging

    logging.getLogger("PIL").addHandler(logging.NullHandler())
    # LiteRT's GPU accelerator writes to stdout.
    with warnings.catch_warnings(), _ours_alone("stderr"), _ours_alone("stdout"):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _ours_alone(name: str) -> Iterator[None]:
    """Keep native code's words off stdout or stderr.

    It writes to descriptor 1 or 2, past Python (LiteRT: "INFO: Created TensorFlow Lite XNNPACK
    delegate for CPU."), so Python's stream moves to a copy of it and it itself leads nowhere.
    """
    ours, number = getattr(sys, name), {"stdout": 1, "stderr": 2}[name]
    try:
        native = ours.fileno() == number
    except (AttributeError, OSError):  # no such stream, or one that is not a file
        native = False
    if not native:
        yield
        return
    ours.flush()
    copy = os.dup(number)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
    # Names of files may hold what the terminal's encoding does not: stderr shows it escaped.
    errors = "backslashreplace" if name == "stderr" else ours.errors
    with open(copy, "w", encoding=ours.encoding, errors=errors, buffering=1) as words:
        setattr(sys, name, words)
        try:
            yield
        finally:
            setattr(sys, name, ours)
            os.dup2(copy, number)
