"""Two processes train as one process does on their batches together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from training_standins import small_config, small_trainer

from egformer_fast.errors import ConfigError
from egformer_fast.train.checkpoint import load_state
from egformer_fast.train.distributed import Processes

DISTRIBUTED = """
import sys
from pathlib import Path
from training_standins import small_config, small_trainer
from egformer_fast.train.distributed import processes

with processes("cpu") as place:
    config = small_config(train__epochs=2, train__batch_size=1, train__accumulate=2)
    trainer = small_trainer(Path(sys.argv[1]), config, plain=True, place=place)
    assert trainer.fit()
    print(trainer.model.keeps)
"""


def test_two_processes_train_like_one_with_their_batches_together(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    common["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", DISTRIBUTED, str(tmp_path / "pair")],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    keeps = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0]
    assert keeps[0] == keeps[1]
    single = small_trainer(tmp_path / "one", small_config(train__epochs=2, train__accumulate=2), plain=True)
    single.fit()
    pair = load_state(tmp_path / "pair/checkpoints/last")
    assert pair["step"] == single.step
    torch.testing.assert_close(pair["model"], dict(single.model.state_dict()), rtol=1e-4, atol=1e-5)


def test_a_run_is_not_resumed_by_another_number_of_processes(tmp_path: Path) -> None:
    """Its steps would be of another size: the schedule would jump."""
    trainer = small_trainer(tmp_path / "run", small_config())
    state = trainer.state_dict()
    trainer.load_state_dict(state)
    with pytest.raises(ConfigError, match=r"--resume: .*run was started with 2 process\(es\), found 1"):
        trainer.load_state_dict({**state, "world": 2})


def test_no_thread_of_the_backend_holds_a_tensor_when_the_processes_have_agreed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Letting go of it while the interpreter shuts down would abort the process."""
    let_go = threading.Event()

    def all_reduce(tensor: torch.Tensor, op: object) -> None:
        holding = threading.Event()

        def hold(view: torch.Tensor) -> None:
            # Another handle on the same storage holder, as the thread of a process group has one in C++.
            graph = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64)) * view
            del view
            holding.set()
            time.sleep(0.1)
            let_go.set()
            del graph

        threading.Thread(target=hold, args=(tensor,)).start()
        holding.wait()

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    place = Processes(0, 2, torch.device("cpu"))
    assert place.largest([1.0, 2.0]) == [1.0, 2.0]
    assert let_go.is_set()
