"""The processes of `accelerate launch`: the first does the whole run, the others join it for training."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor

from compress.workload import Batch
from export.errors import EnvironmentFailure

PATIENCE = timedelta(days=7)
"""How long a process waits for the first one, which prunes, quantizes and measures between two trainings."""


@dataclass(frozen=True)
class Processes:
    """Those that train together: `rank` is this one's number, 0 the first's; each works on its own `device`."""

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def tell(self, message: Any = None) -> Any:
        """What the first process passes in, on every process; all of them call this together.

        Raises:
            EnvironmentFailure: if another process is gone.
        """
        if self.count == 1:
            return message
        from accelerate.utils import broadcast_object_list

        with _together(self):
            return broadcast_object_list([message], from_process=0)[0]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, the same on every process; all of them call this together."""
        if self.count == 1:
            return tensor
        from accelerate.utils import reduce

        with _together(self):
            summed: Tensor = reduce(tensor, "sum")
        return summed

    def share(self, batch: Batch) -> tuple[Batch, float]:
        """This process's samples of a batch, on its device, and their weight: the weights of all processes add to 1.

        A batch with fewer samples than processes goes to each of them whole.
        """
        (inputs, target), samples = batch, len(batch[1])
        mine = slice(samples * self.rank // self.count, samples * (self.rank + 1) // self.count)
        if samples < self.count:
            mine = slice(None)
        weight = 1 / self.count if samples < self.count else len(target[mine]) / samples
        return (
            {name: tensor[mine].to(self.device) for name, tensor in inputs.items()},
            target[mine].to(self.device),
        ), (weight)


ALONE = Processes()


def launched() -> bool:
    """Whether a launcher started several processes of this command (`accelerate launch`, torchrun)."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def current() -> Processes:
    """The processes that train together: those of the launcher, else this one alone, on the GPU if there is one."""
    cuda = torch.cuda.is_available()
    if not launched():
        return Processes(device=torch.device("cuda" if cuda else "cpu"))
    from accelerate import PartialState

    state = PartialState(cpu=not cuda, timeout=PATIENCE)
    return Processes(state.process_index, state.num_processes, state.device)


@contextmanager
def together() -> Iterator[Processes]:
    """Connect the processes of the launcher; the first one's end, good or bad, is the end of the others' waiting."""
    processes = current()
    try:
        yield processes
    finally:
        if processes.count > 1:
            if processes.rank == 0:
                processes.tell(None)
            torch.distributed.destroy_process_group()


@contextmanager
def _together(processes: Processes) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch.distributed raises when a connection is closed
        raise EnvironmentFailure(
            f"process {processes.rank} of {processes.count} has lost another one ({str(error).splitlines()[0]}); "
            "look above for what ended it, then run the same command to continue"
        ) from error
