"""One of several processes that save, load or compare a sharded model; started by the tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn


def small(names: tuple[str, str] = ("up", "down")) -> nn.Module:
    """A model of whose rows each process gets some; 5 of them do not divide evenly."""
    torch.manual_seed(0)
    return nn.ModuleDict({names[0]: nn.Linear(3, 5), names[1]: nn.Linear(5, 4, bias=False)})


def shard(model: nn.Module) -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            placement = Shard(0) if name == "weight" else Replicate()
            sharded = distribute_tensor(parameter.detach(), mesh, [placement])
            setattr(module, name, nn.Parameter(sharded))
    return model


def save_distributed(folder: str) -> None:
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": shard(small()).state_dict(), "step": torch.tensor(3)}, checkpoint_id=folder)


def load_and_save(source: str, folder: str) -> None:
    """A checkpoint under other names into a sharded model, and back."""
    import treealign

    model = shard(small(("first", "second")))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    mapping = [treealign.Rename("up", "first"), treealign.Rename("down", "second")]
    treealign.load(model, source, mapping)
    expected = dict(zip(model.state_dict(), small().state_dict().values(), strict=True))
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor.full_tensor(), expected[key]), key
    treealign.save(model, folder)


def refuse_meta(source: str, folder: str) -> None:
    """A sharded model without values is refused, and says so in every process."""
    import treealign

    model = shard(small()).to("meta")
    try:
        treealign.load(model, source)
    except treealign.TreealignError as error:
        Path(folder, f"{dist.get_rank()}.txt").write_text(str(error))


def refuse_flattened(source: str, folder: str) -> None:
    """A model of whose flattened parameters each process has a part."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    import treealign

    model = FullyShardedDataParallel(small(), use_orig_params=True, device_id=torch.device("cpu"))
    said = []
    for act in (lambda: treealign.load(model, source), lambda: treealign.save(model, f"{folder}/out")):
        try:
            act()
        except treealign.TreealignError as error:
            said.append(str(error))
    with FullyShardedDataParallel.summon_full_params(model):
        treealign.load(model, source)
        assert all(map(torch.equal, (p.detach() for p in model.parameters()), small().state_dict().values()))
    Path(folder, f"{dist.get_rank()}.txt").write_text("\n".join(said))


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, world, store, task, *arguments = sys.argv[1:]
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=int(rank), world_size=int(world))
    globals()[task](*arguments)
    dist.barrier()
    dist.destroy_process_group()
