"""Processes that a launcher has started: torchrun on two nodes, here both on this machine."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mobile_centernet.errors import UserError
from mobile_centernet.processes import Launch
from tests.training.small_run import draw_set

TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "1"}
ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


def test_without_a_launcher_it_is_one_process() -> None:
    assert Launch.of({}) == Launch(0, 1, 1)
    assert Launch.of({}).leads


def test_the_first_process_of_all_leads() -> None:
    assert Launch.of(TORCHRUN | ADDRESS) == Launch(rank=1, processes=4, here=2)
    assert not Launch.of(TORCHRUN | ADDRESS).leads
    assert Launch.of(TORCHRUN | ADDRESS | {"RANK": "0", "LOCAL_RANK": "0"}).leads


def test_a_launcher_that_starts_one_process_a_machine_names_no_local_ones() -> None:
    assert Launch.of({"RANK": "2", "WORLD_SIZE": "3", **ADDRESS}) == Launch(rank=2, processes=3, here=1)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"WORLD_SIZE": "2"}, "expected a launcher that sets .*RANK.* as torchrun does, found WORLD_SIZE=2"),
        ({**ADDRESS, "WORLD_SIZE": "2", "RANK": "two"}, "found WORLD_SIZE=2, RANK=two"),
        ({**ADDRESS, "WORLD_SIZE": "2", "RANK": "2"}, "found WORLD_SIZE=2, RANK=2"),
        ({**ADDRESS, **TORCHRUN, "WORLD_SIZE": "3"}, "WORLD_SIZE=3"),
        ({**ADDRESS, "MASTER_ADDR": "", **TORCHRUN}, "MASTER_ADDR="),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE=4: expected one process, or a launcher that sets WORLD"),
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, "SLURM_NTASKS=2"),
    ],
)
def test_a_launcher_that_is_not_understood_is_refused(environment: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Launch.of(environment)


def test_what_says_nothing_about_this_process_is_no_launcher() -> None:
    assert Launch.of({"SLURM_NTASKS": "2"}) == Launch()  # salloc's shell
    assert Launch.of({"OMPI_COMM_WORLD_SIZE": "1"}) == Launch()


def test_a_stage_that_is_no_training_is_not_started_several_times(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root), **TORCHRUN, **ADDRESS}
    command = [sys.executable, "-m", "steps", "evaluate"]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "evaluate: expected one process, found 4 (WORLD_SIZE); a launcher may start pretrain_teacher" in ended.stderr


def start(node: int, port: int, folder: Path, *arguments: object) -> "subprocess.Popen[bytes]":
    where = ["--nnodes=2", f"--node-rank={node}", "--nproc-per-node=1", "--master-addr=127.0.0.1"]
    program = [sys.executable, "-m", "torch.distributed.run", *where, f"--master-port={port}"]
    command = [*program, "-m", "tests.training.launched_run", folder, *arguments]
    with (folder / f"node{node}.log").open("ab") as log:
        return subprocess.Popen([str(each) for each in command], stdout=log, stderr=log, start_new_session=True)


def launched(folder: Path, *arguments: object) -> list[int]:
    """Exit codes of two nodes on this machine."""
    with socket.socket() as any_free:
        any_free.bind(("127.0.0.1", 0))
        port = any_free.getsockname()[1]
    nodes = [start(node, port, folder, *arguments) for node in range(2)]
    return [node.wait(timeout=300) for node in nodes]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes on one GPU are no case of Lightning's")
def test_two_nodes_train_one_network_and_a_lost_node_loses_no_epoch(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
        draw_set(folder)
    assert launched(whole, 3) == [0, 0], (whole / "node0.log").read_text()
    first, second = (json.loads((whole / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first["told"] == [0, 1, 2] and second["told"] == []  # the second neither tracks nor writes
    assert first["weights"] == second["weights"] and first["losses"] == second["losses"]
    assert len((whole / "work/history.jsonl").read_text().splitlines()) == 3

    ended = launched(broken, 3, 2)
    assert ended[1] == -9 and ended[0] not in (0, -9)
    assert [json.loads(line)["epoch"] for line in (broken / "work/history.jsonl").read_text().splitlines()] == [0, 1]
    assert launched(broken, 3) == [0, 0], (broken / "node0.log").read_text()
    resumed = json.loads((broken / "rank0.json").read_text())
    assert resumed["told"] == [2]
    assert resumed["weights"] == first["weights"] and resumed["losses"] == first["losses"]
    assert not re.search(r"epoch 0/2", (broken / "node1.log").read_text())
