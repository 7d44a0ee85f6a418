"""The students: small ViTs that are trained from scratch."""

from __future__ import annotations

import difflib

from unip.errors import UnipError
from unip.vit.architecture import BackboneSpec


def _shape(width: int, depth: int, heads: int) -> BackboneSpec:
    arguments = {"img_size": 224, "patch_size": 16, "embed_dim": width, "depth": depth, "num_heads": heads}
    return BackboneSpec(arguments=arguments, fixed_positions=True)


# ViT-T/S/B of UNIP's section 4.1: 16-pixel patches, class token, fixed 2-D sin-cos positions.
STUDENTS: dict[str, BackboneSpec] = {
    "unip_micro": _shape(96, 6, 3),  # ours, for demonstrations on a CPU
    "unip_tiny": _shape(192, 12, 3),
    "unip_small": _shape(384, 12, 6),
    "unip_base": _shape(768, 12, 12),
}


def student_spec(name: str, last_heads: int | None = None) -> BackboneSpec:
    """Return a student's architecture.

    Args:
        name: A key of :data:`STUDENTS`.
        last_heads: Head count of the last block, as many as the teacher's; None keeps that of the other blocks.

    Raises:
        UnipError: There is no such student, or it is narrower than that many heads.
    """
    if name not in STUDENTS:
        near = difflib.get_close_matches(name, STUDENTS, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(STUDENTS)}."
        raise UnipError(f"unknown student {name!r}", hint)
    spec = STUDENTS[name]
    if last_heads is None or last_heads == spec.arguments["num_heads"]:
        return spec
    if not 1 <= last_heads <= spec.arguments["embed_dim"]:
        raise UnipError(f"{name} is {spec.arguments['embed_dim']} wide: its last block cannot have {last_heads} heads")
    return spec.model_copy(update={"last_heads": last_heads})
