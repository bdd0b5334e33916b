"""Processors that this one can imitate: older ones and another maker's, by what each library lets one choose.

As a plugin of pytest (``-p kinds``) it holds, before the first test, that every library took what it was told.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Any, Final

import pytest

IMITATED: Final = "SHEAF_TESTS_PROCESSOR"


@dataclass(frozen=True)
class Kind:
    """One processor, in the words of each library."""

    openblas: str
    """OPENBLAS_CORETYPE: the kernels of FAISS's BLAS, and of NumPy's"""
    numpy: str
    """where NumPy's has them, and these otherwise."""
    numba: str
    """NUMBA_CPU_NAME: what LLVM compiles loops for, with nothing that this machine has beyond it."""
    registers: str
    """The widest registers that such loops use."""
    without: tuple[str, ...]
    """NPY_DISABLE_CPU_FEATURES: what NumPy's own loops do without."""
    torch: str
    """ATEN_CPU_CAPABILITY"""
    faiss: str
    """FAISS_SIMD_LEVEL"""
    onednn: str
    """ONEDNN_MAX_CPU_ISA: what OpenVINO (and torch) compile for. None here has bfloat16."""
    compiled: str
    """OpenVINO's name for a layer that it compiled for that."""
    bytes: str | None = None
    """What scores of codes multiply bytes with (``byte_instructions``)."""

    def environment(self) -> dict[str, str]:
        return {
            "OPENBLAS_CORETYPE": self.openblas,
            "NUMBA_CPU_NAME": self.numba,
            "NUMBA_CPU_FEATURES": "" if self.bytes is None else f"+{self.bytes}",
            "NPY_DISABLE_CPU_FEATURES": " ".join(self.without),
            "ATEN_CPU_CAPABILITY": self.torch,
            "FAISS_SIMD_LEVEL": self.faiss,
            "ONEDNN_MAX_CPU_ISA": self.onednn,
        }


NEWER: Final = ("X86_V4", "AVX512_ICL", "AVX512_SPR")
OLD: Final = ("X86_V3", *NEWER)
KINDS: Final = {
    "nehalem": Kind("Nehalem", "Nehalem", "nehalem", "xmm", OLD, "default", "NONE", "SSE41", "jit_sse42_f32"),
    "sandybridge": Kind(
        "Sandybridge", "Sandybridge", "sandybridge", "ymm", OLD, "default", "NONE", "AVX", "jit_sse42_f32"
    ),
    "haswell": Kind("Haswell", "Haswell", "haswell", "ymm", NEWER, "avx2", "AVX2", "AVX2", "jit_avx2_f32", "avx2"),
    "zen": Kind("Zen", "Haswell", "haswell", "ymm", NEWER, "avx2", "AVX2", "AVX2", "jit_avx2_f32", "avx2"),
}
"""x86-64-v2; AVX, but neither AVX2 nor fused multiplication; AVX2, by Intel's kernels and by AMD's."""


def pytest_sessionstart() -> None:
    name = os.environ[IMITATED]
    kind, found = KINDS[name], taken()
    found["numpy"] &= set(kind.without)
    expected = {
        "openblas": {kind.openblas, kind.numpy},
        "numba": kind.registers,
        "bytes": kind.bytes,
        "numpy": set(),
        "torch": kind.torch.upper(),
        "faiss": kind.faiss,
        "openvino": kind.compiled,
        "precisions": ["f32"],
    }
    if found != expected:
        pytest.exit(f"{name} is not imitated: expected {expected}, found {found}", returncode=1)
    print(f"{name}: {found}")


def taken() -> dict[str, Any]:
    """The instructions that each library computes with in this process."""
    import faiss
    import torch
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__  # type: ignore[attr-defined]
    from threadpoolctl import threadpool_info

    from app.compute.native import byte_instructions
    from app.encoders.openvino.runtime import precisions

    return {
        "openblas": {one["architecture"] for one in threadpool_info() if one["internal_api"] == "openblas"},
        "numba": _registers(),
        "bytes": byte_instructions(),
        "numpy": {name for name in __cpu_dispatch__ if __cpu_features__[name]},
        "torch": torch.backends.cpu.get_cpu_capability(),
        "faiss": faiss.SIMDConfig.get_level_name(),
        "openvino": _layer(),
        "precisions": precisions(),
    }


def _registers() -> str:
    """The widest registers of a loop that LLVM turns into vectors."""
    import numba
    import numpy as np

    @numba.njit  # type: ignore[untyped-decorator]
    def twice(values: Any) -> Any:
        return values * np.float32(2)

    twice(np.ones(8, np.float32))
    (assembly,) = twice.inspect_asm().values()
    return max(re.findall(r"%([xyz]mm)\d", assembly))  # by the alphabet, too


def _layer() -> str:
    """The name of a layer that OpenVINO compiles itself for this CPU."""
    import numpy as np

    from app.encoders.openvino.runtime import openvino

    library = openvino()
    given = library.opset13.parameter([-1, 64], np.float32)
    model = library.Model([library.opset13.softmax(given, -1)], [given])
    compiled = library.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    compiled([np.ones((8, 64), np.float32)])
    layers = [node.get_rt_info() for node in compiled.get_runtime_model().get_ordered_ops()]
    (name,) = [str(one["primitiveType"].astype(str)) for one in layers if one["layerType"].astype(str) == "Softmax"]
    return name
