"""The compiled library and its structures, field by field those of `native/decoder.h`."""

import ctypes
import importlib.machinery
import logging
import os
import platform
from ctypes import POINTER, Structure, c_double, c_float, c_int, c_int32, c_void_p
from functools import cache
from pathlib import Path

log = logging.getLogger(__name__)

VERSION = 9
"""That of `native/decoder.h`."""
_ARM = platform.machine() in ("aarch64", "arm64")
KERNELS = ("neon_dotprod", "neon") if _ARM else ("avx512_vnni", "avx512", "avx_vnni", "avx2")
"""Kinds of this machine's processors, the best first."""
_INT, _FLOAT, _POINTER = c_int32, c_float, c_void_p


class Matrix(Structure):
    """A packed weight."""

    _fields_ = (
        ("data", _POINTER), ("bias", _POINTER), ("adapters", _POINTER),
        ("kind", _INT), ("outputs", _INT), ("inputs", _INT), ("unused", _INT),
    )  # fmt: skip


class Adapter(Structure):
    """What a LoRA adapter adds to a weight."""

    _fields_ = (("a", Matrix), ("b", Matrix))


class Unit(Structure):
    """A gated unit."""

    _fields_ = (("gate_up", Matrix), ("down", Matrix))


class Latents(Structure):
    """What a layer of latent attention has besides."""

    _fields_ = (
        ("queries", Matrix), ("query_norm", _POINTER), ("norm", _POINTER),
        ("keys", POINTER(Matrix)), ("values", POINTER(Matrix)),
    )  # fmt: skip


class Layer(Structure):
    """A layer of the decoder, with its part of the cache."""

    _fields_ = (
        *((f"{name}_norm", _POINTER) for name in ("input", "post_attention", "pre_mlp", "post_mlp")),
        ("latents", Latents), ("qkv", Matrix), ("o", Matrix),
        ("q_norm", _POINTER), ("k_norm", _POINTER), ("sinks", _POINTER),
        ("router", Matrix), ("expert_bias", _POINTER), ("units", POINTER(Unit)),
        *((name, _POINTER) for name in ("keys", "values", "key_scales", "value_scales")),
        ("routed", _INT), ("others", _INT), ("rotary", _INT), ("window", _INT),
    )  # fmt: skip


class Model(Structure):
    """The whole decoder."""

    _fields_ = (
        *((name, _INT) for name in ("hidden", "vocabulary", "layers", "heads", "kv_heads", "head_size")),
        *((name, _INT) for name in ("top_k", "groups", "top_groups", "softmax_router", "normalised_gates")),
        *((name, _INT) for name in ("qk_norm", "gated_attention", "activation", "cache_kind", "embedding_kind")),
        *((name, _INT) for name in ("turned", "value_size", "latent", "own", "query_latent", "rank")),
        *((name, _FLOAT) for name in ("eps", "embedding_scale", "attention_scale", "attention_softcap")),
        *((name, _FLOAT) for name in ("temperature_from", "rotary_scale", "router_softcap", "route_scale")),
        *((name, _FLOAT) for name in ("feed_forward_scale", "swiglu_limit", "swiglu_alpha", "unused")),
        ("periods", _POINTER), ("embedding", _POINTER), ("final_norm", _POINTER),
        ("head", Matrix), ("layer", POINTER(Layer)),
        ("join", Matrix), ("state_norm", _POINTER), ("embedding_norm", _POINTER),
    )  # fmt: skip


class Span(Structure):
    """Tokens of one sequence in a step."""

    _fields_ = (
        ("row", _INT), ("count", _INT), ("start", _INT), ("adapter", _INT),
        ("blocks", _POINTER), ("window_blocks", _POINTER),
    )  # fmt: skip


class Draw(Structure):
    """How a token is drawn from a row of scores."""

    _fields_ = (
        ("top_k", _INT), ("temperature", _FLOAT), ("top_p", _FLOAT), ("min_p", _FLOAT), ("uniform", c_double),
    )  # fmt: skip


@cache
def load() -> ctypes.CDLL | None:
    """The library, the first of `KERNELS` that this processor can run, or the one that the environment variable
    TROTH_KERNELS names ("none": none); None where it was not built (no C++ compiler at installation), was built from
    other sources (the log says so), or cannot be run.

    Raises ValueError where TROTH_KERNELS names nothing of these.
    """
    wanted = os.environ.get("TROTH_KERNELS")
    if wanted not in (None, "none", *KERNELS):
        raise ValueError(f"TROTH_KERNELS={wanted!r}: {', '.join(KERNELS)} and none are known")
    paths = (built(name) for name in KERNELS if wanted in (None, name))
    return next((library for path in paths if path and (library := opened(path))), None)


def built(name: str) -> Path | None:
    """The library's file for one of `KERNELS`, if it was built."""
    places = (Path(__file__).parent / f"_kernels_{name}{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES)
    return next((path for path in places if path.exists()), None)


def opened(path: Path) -> ctypes.CDLL | None:
    """The library in a file, as `load` gives it."""
    library = ctypes.CDLL(str(path))
    if not _is_current(library):
        log.warning("%s was built from other sources, and steps run in torch: `pip install` Troth again", path)
        return None
    if not library.troth_supported():
        return None
    library.troth_open.restype = c_void_p
    library.troth_open.argtypes = [POINTER(Model), c_int, c_int]
    library.troth_close.restype = None
    library.troth_close.argtypes = [c_void_p]
    library.troth_draw.restype = None
    library.troth_draw.argtypes = [c_void_p, c_void_p, c_int, c_int, POINTER(Draw), c_int, POINTER(c_int32)]
    library.troth_likeliest.restype = None
    library.troth_likeliest.argtypes = [c_void_p, c_void_p, *[c_int] * 4, *[c_void_p] * 3]
    library.troth_mask.restype = None
    library.troth_mask.argtypes = [c_void_p, c_void_p, c_int]
    library.troth_step.restype = None
    library.troth_step.argtypes = [
        c_void_p, c_void_p, c_int, c_void_p, POINTER(Span), c_int, c_void_p, c_int,
        c_void_p, c_void_p, c_void_p, c_void_p,
    ]  # fmt: skip
    return library


def _is_current(library: ctypes.CDLL) -> bool:
    """Whether it is of this version and means the same structures."""
    if not hasattr(library, "troth_version") or library.troth_version() != VERSION:
        return False
    sizes = (c_int32 * 8)()
    library.troth_sizes(sizes)
    return list(sizes) == [ctypes.sizeof(one) for one in (Matrix, Unit, Latents, Layer, Model, Span, Adapter, Draw)]
