# SPDX-License-Identifier: Apache-2.0
"""``covid-edge predict --executor``: a real Dask cluster of two processes on this computer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from conftest import BRIGHT, DARK, MIDDLE, TOY

distributed = pytest.importorskip("distributed")
cloudpickle = pytest.importorskip("cloudpickle")
# Workers cannot import this file: what they are to run is sent to them whole.
cloudpickle.register_pickle_by_value(sys.modules[__name__])
# Sockets that Dask closes late are Dask's affair.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestWarning")


@pytest.fixture
def cluster(tmp_path):
    """Two fresh workers, in a folder that is not the client's; a task that loses one is lost."""
    import dask

    quiet = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.daemon": True}
    with (
        dask.config.set({**quiet, "temporary-directory": str(tmp_path / "dask")}),
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=":0",
            silence_logs=60,
        ) as cluster,
    ):
        yield cluster


@pytest.fixture
def predict(run, cluster):
    def call(*arguments, bundle=TOY, **options):
        address = cluster.scheduler_address.replace("tcp", "dask")
        command = ("predict", "--bundle", bundle, "--executor", address)
        return run(*command, *arguments, **options)

    return call


def on_workers(cluster, function) -> list:
    with distributed.Client(cluster, set_as_default=False) as client:
        return list(client.run(function).values())


def bundles_loaded() -> int:
    from covid_edge.many import _predictors

    return _predictors.cache_info().misses


def die_at_the_next_scan() -> None:
    from covid_edge import Predictor

    Predictor.predict = lambda self, path: os._exit(1)


def test_a_cluster_answers_as_this_computer_does_and_loads_the_bundle_once(
    run, predict, cluster, flat, tmp_path
):
    for number in range(8):
        flat(f"scans/{number}a.png", DARK)
        flat(f"scans/{number}b.png", MIDDLE)
        flat(f"scans/{number}c.png", BRIGHT)
    (tmp_path / "scans" / "5d.png").write_bytes(b"no picture")
    done = predict("--json", "scans", cwd=tmp_path)
    here = run("predict", "--bundle", TOY, "--workers", 1, "--json", "scans", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "Toy bundle: its answers mean nothing.\n")
    there, expected = (
        [{**json.loads(line), "latency_ms": None} for line in out.splitlines()]
        for out in (done.stdout, here.stdout)
    )
    assert there == expected
    assert len(there) == 25
    assert there[0]["file"] == os.path.join("scans", "0a.png")
    assert on_workers(cluster, bundles_loaded) == [1, 1]


def test_a_lost_worker_is_one_sentence_and_ends_with_7(predict, cluster, flat):
    on_workers(cluster, die_at_the_next_scan)
    done = predict(flat("a.png", DARK))
    assert done.returncode == 7
    notice, sentence = done.stderr.splitlines()
    assert "a.png: the executor lost it (KilledWorker: " in sentence


def test_a_bundle_damaged_there_is_one_sentence_and_ends_with_5(predict, flat, toy_copy):
    path = toy_copy / "xray.int8.tflite"
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    done = predict(flat("a.png", MIDDLE), flat("b.png", DARK), bundle=toy_copy)
    assert done.returncode == 5
    assert len(done.stdout.splitlines()) == 1
    notice, sentence = done.stderr.splitlines()
    assert sentence.startswith("covid-edge: on ")
    assert "xray.int8.tflite is not the file that bundle.json describes" in sentence


CLUSTER = """
import sys, distributed
with distributed.LocalCluster(n_workers=1, dashboard_address=":0") as cluster:
    print(cluster.scheduler_address, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="kills a group of processes as Unix does")
def test_a_lost_cluster_is_one_sentence_and_ends_with_7(flat):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER], stderr=subprocess.DEVNULL, start_new_session=True, **pipes
    ) as cluster:
        address = cluster.stdout.readline().strip().replace("tcp", "dask")
        command = [sys.executable, "-m", "covid_edge", "predict", "--bundle", TOY]
        command += ["--executor", address, "-"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, **pipes) as process:
            print(flat("a.png", DARK), file=process.stdin, flush=True)
            assert "xray" in process.stdout.readline()
            os.killpg(cluster.pid, signal.SIGKILL)
            print(flat("b.png", DARK), file=process.stdin, flush=True)
            _, words = process.communicate(timeout=120)
    assert process.returncode == 7
    notice, sentence = words.splitlines()
    assert "b.png: the executor lost it (" in sentence


def test_no_cluster_there_is_one_sentence_and_ends_with_7(run, flat):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"dask://127.0.0.1:{taken.getsockname()[1]}"
        done = run("predict", "--bundle", TOY, "--executor", address, flat("a.png", DARK))
    assert done.returncode == 7
    notice, sentence = done.stderr.splitlines()
    assert sentence.startswith(f"covid-edge: {address} cannot be reached (")


def test_a_cluster_without_workers_is_one_sentence_and_ends_with_7(predict, cluster, flat):
    cluster.scale(0)
    done = predict(flat("a.png", DARK))
    assert done.returncode == 7
    assert done.stderr.splitlines()[-1].startswith("covid-edge: dask://127.0.0.1:")
    assert "has no workers; start one with `dask worker 127.0.0.1:" in done.stderr


@pytest.mark.parametrize("address", ["ray://there", "dask://", "there:8786"])
def test_another_kind_of_address_is_not_understood(run, flat, address):
    done = run("predict", "--bundle", TOY, "--executor", address, flat("a.png", DARK))
    assert done.returncode == 2
    sentence = done.stderr.splitlines()[-1]
    assert sentence == (f"covid-edge: executor {address!r} is unknown: it must be dask://host:port")


def test_without_dask_it_says_what_to_install(flat):
    arguments = ["predict", "--bundle", str(TOY), "--executor", "dask://a:1", "a.png"]
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        f"from covid_edge.cli import main; sys.exit(main({arguments}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "pip install 'covid-edge[cluster]'" in done.stderr.splitlines()[-1]
