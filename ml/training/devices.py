"""The device, precision and number of processes that training uses."""

import os

import torch
from lightning_fabric import Fabric


def make_fabric(precision: str, dense: bool = False) -> Fabric:
    """Set up device, precision and strategy; under torchrun, join the processes that it started.

    Args:
        precision: Fabric's name of it, or `auto`: bf16-mixed if the hardware is faster in it (GPUs from
            Ampere on, CPUs with AMX and, if `dense`, CPUs with AVX-512 BF16), 16-mixed on older GPUs,
            otherwise 32-true.
        dense: whether the network's convolutions are dense. Depthwise ones are a fifth slower in AVX-512
            BF16.
    """
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="auto",
        devices=local_world,
        num_nodes=world // local_world,
        strategy="ddp" if world > 1 else "auto",
        precision=_fastest_precision(dense) if precision == "auto" else precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _fastest_precision(dense: bool) -> str:
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    native = torch.cpu._is_amx_tile_supported() or (dense and torch.cpu._is_avx512_bf16_supported())
    return "bf16-mixed" if native else "32-true"
