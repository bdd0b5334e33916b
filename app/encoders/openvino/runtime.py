"""OpenVINO's CPU runtime: the only module that imports it. Importing this one does not.

OpenVINO reports its import and every conversion to Google Analytics unless its telemetry package is absent or the user
opted out. Sheaf sends nothing anywhere, so the package is hidden before the import; OpenVINO then takes its own stub.

The first inference of a process, made by several threads at once, can lock OpenVINO 2026.4.1 against the interpreter's
lock, for good. So every network makes its first under the loader's lock, before anybody has the network.

One stream a thread: each core runs batches of its own. Two cores on one batch wait for each other at every layer,
which costs 8 % of the time; a short query gains nothing from a second core.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np

from app.types import F32, I64

Precision: TypeAlias = Literal["bf16", "f32"]

_LOADING = threading.Lock()


class NotConverted(Exception):
    """Why a model runs in torch. Never leaves app.encoders."""


def openvino() -> Any:
    """The library. Raises NotConverted where it is not installed or does not load on this machine."""
    with _LOADING:
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        try:
            import openvino
        except (ImportError, OSError) as error:
            raise NotConverted(f"OpenVINO does not load: {error}") from error
        return openvino


def precisions() -> list[Precision]:
    """The number formats that this CPU computes in natively, the fastest first. bfloat16: AVX512-BF16 or AMX."""
    capabilities = openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["bf16", "f32"] if "BF16" in capabilities else ["f32"]


class Network:
    """A transformer, compiled: token ids in, one vector a token out. Safe for several threads at once."""

    def __init__(self, model: Path, inputs: list[str], precision: Precision, threads: int) -> None:
        """model: an .xml file, its weights beside it. inputs: names out of input_ids, attention_mask, token_type_ids.

        Raises NotConverted where OpenVINO does not take the file.
        """
        library = openvino()
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": threads,
            # Pinned threads would not give way to the searches that run beside them.
            "ENABLE_CPU_PINNING": False,
        }
        self._inputs = inputs
        # A request holds no more than its inputs and outputs. As many as run at once, so that OpenVINO's own queue
        # decides who is next: a query waits for one batch of documents, never for all of them.
        self._idle: deque[Any] = deque()
        ones = np.ones((1, 8), np.int64)
        try:
            with _LOADING:
                self._compiled = library.Core().compile_model(str(model), "CPU", settings)
                with self.run(ones, ones, ones - 1):
                    pass
        except RuntimeError as error:
            raise NotConverted(f"OpenVINO does not run {model}: {error}") from error

    @contextmanager
    def run(self, ids: I64, mask: I64, types: I64) -> Iterator[F32]:
        """(rows, length) int64 each -> (rows, length, dim) float32; vectors where the mask is 0 mean nothing.

        The vectors lie in the request's own memory, which another run takes after the context ends.
        """
        named = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        yield np.asarray(
            request.infer([named[name] for name in self._inputs], share_inputs=True, share_outputs=True)[0], np.float32
        )
        self._idle.append(request)
