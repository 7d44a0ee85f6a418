"""Where to compute, and in which precision."""

from __future__ import annotations

import torch

from unip.errors import UnipError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Return the device to run on; ``auto`` prefers CUDA, then MPS, then the CPU.

    Raises:
        UnipError: The device is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, usable in there.items() if usable)
    if not there[name]:
        raise UnipError(f"device {name} was requested, but torch finds none", "Use --device auto or --device cpu.")
    return torch.device(name)


def native_bfloat16() -> str:
    """Return what lets this processor compute in bfloat16 faster than in float32: ``AMX`` or ``AVX-512``; else ""."""
    found = {"AMX": "_is_amx_tile_supported", "AVX-512": "_is_avx512_bf16_supported"}  # of torch, not public
    return next((name for name, asked in found.items() if getattr(torch.cpu, asked, bool)()), "")


def training_precision(name: str, *, on_gpu: bool, on_processors: bool) -> str:
    """Return what to train in: ``fp32``, ``bf16`` or ``fp16``.

    Args:
        name: The setting.
        on_gpu: Whether it is trained on a GPU.
        on_processors: Whether ``auto`` may be bf16 without one, where the processor is faster in it.

    Raises:
        UnipError: fp16 was asked for on the CPU.
    """
    if name == "fp16" and not on_gpu:
        raise UnipError("precision fp16 needs a GPU", "Use bf16 or fp32 on the CPU.")
    if name != "auto":
        return name
    if on_gpu:
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    return "bf16" if on_processors and native_bfloat16() else "fp32"


def device_name(device: torch.device) -> str:
    """Return what a device is called: a GPU's model, else its kind."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def choose_inference_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type to segment in: as :func:`choose_precision`, but ``auto`` is bf16 on CPUs that compute in it.

    On HIT-UAV, masks in bfloat16 lost less than 0.1 points of mIoU (docs/predict.md).

    Raises:
        UnipError: float16 was asked for on the CPU.
    """
    if name == "auto" and device.type == "cpu" and native_bfloat16():
        return torch.bfloat16
    return choose_precision(name, device)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type to compute in.

    Raises:
        UnipError: float16 was asked for on the CPU.
    """
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise UnipError("precision fp16 needs a GPU", "Use bf16 or fp32 on the CPU.")
    return PRECISIONS[name]


def precision_name(dtype: torch.dtype) -> str:
    """Return what the settings call a type to compute in, such as ``bf16``."""
    return next(name for name, each in PRECISIONS.items() if each == dtype)
