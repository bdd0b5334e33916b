"""Where a local model runs: a GPU where torch can use one, else the CPU.

Asking torch costs its import, seconds and hundreds of megabytes that a server of converted models does without. So the
machine is asked first: without the device file of a driver there is no GPU, and torch stays out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

DRIVERS: Final = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))
"""NVIDIA's, AMD's, and Windows's under its Linux."""


def choose(asked: str, drivers: Sequence[Path] = DRIVERS) -> str:
    """A name of torch's: ``asked`` itself, or for `auto` what there is, `cuda` (AMD's too) or `cpu`.

    >>> choose("cuda:1"), choose("auto", [])
    ('cuda:1', 'cpu')
    """
    if asked != "auto":
        return asked
    if not any(path.exists() for path in drivers):
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        log.info("there is a GPU's driver, but torch %s cannot use it: models run on the CPU", torch.__version__)
        return "cpu"
    try:
        torch.zeros(1, device="cuda")
    except RuntimeError as error:
        log.warning("the GPU does not work, models run on the CPU: %s", error)
        return "cpu"
    return "cuda"
