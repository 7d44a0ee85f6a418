"""Which keyword arguments may reach timm from a file: those that shape a plain ViT, each with its type and bounds.

A model folder, the header of a safetensors file and a hub repository all bring arguments that nobody here wrote. timm's
``create_model`` takes many that do other things than shape a model: ``checkpoint_path`` reads a file (in its older
releases with the unsafe unpickler), ``pretrained`` downloads one, ``features_only`` wraps the model. So only what is
listed here passes. All values are numbers, true/false and words from a fixed list: no paths, no code.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from unip.errors import UnipError

MAX_PARAMETERS = 20e9  # the largest plain ViT that is released has 7 billion

Count = Annotated[int, Field(ge=1, le=1024)]
PixelCount = Annotated[int, Field(ge=1, le=16384)]
Grid = Annotated[int, Field(ge=1, le=4096)]
ImageSize = PixelCount | Annotated[list[PixelCount], Field(min_length=2, max_length=2)]
PatchSize = Count | Annotated[list[Count], Field(min_length=2, max_length=2)]
GridSize = Grid | Annotated[list[Grid], Field(min_length=2, max_length=2)]
Tokens = Annotated[int, Field(ge=0, le=1024)]
Number = Annotated[float, Field(ge=-1e4, le=1e4)]
Norm = Literal["layernorm", "layernormfp32", "rmsnorm", "rmsnormfp32", "simplenorm", "simplenormfp32"]
Activation = Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swish"]


# The arguments that shape a backbone, and what each may be.
ALLOWED: dict[str, Any] = {
    # of timm's VisionTransformer and Eva
    "img_size": ImageSize,
    "patch_size": PatchSize,
    "embed_dim": Annotated[int, Field(ge=1, le=8192)],
    "depth": Annotated[int, Field(ge=1, le=128)],
    "num_heads": Count,
    "mlp_ratio": Annotated[float, Field(gt=0, le=32)],
    "qkv_bias": bool,
    "qk_norm": bool,
    "init_values": Annotated[float, Field(ge=0, le=100)] | None,
    "class_token": bool,
    "no_embed_class": bool,
    "norm_layer": Norm,
    "global_pool": Literal[""],  # a backbone gives all tokens
    # of VisionTransformer alone
    "reg_tokens": Tokens,
    "pos_embed": Literal["", "none", "learn"],
    "act_layer": Activation,
    "embed_norm_layer": Norm,
    "pre_norm": bool,
    "final_norm": bool,
    "proj_bias": bool,
    "scale_attn_norm": bool,
    "scale_mlp_norm": bool,
    # of Eva alone
    "num_reg_tokens": Tokens,
    "qkv_fused": bool,
    "attn_type": Literal["eva", "rope"],
    "swiglu_mlp": bool,
    "swiglu_align_to": Annotated[int, Field(ge=0, le=4096)],
    "scale_mlp": bool,
    "scale_attn_inner": bool,
    "use_post_norm": bool,
    "use_pre_transformer_norm": bool,
    "use_post_transformer_norm": bool | None,
    "use_abs_pos_emb": bool,
    "use_rot_pos_emb": bool,
    "rope_type": Literal["cat", "mixed", "dinov3"],
    "rope_temperature": Annotated[float, Field(gt=0, le=1e9)],
    "rope_grid_offset": Number,
    "rope_grid_indexing": Literal["ij", "xy"],
    "rope_rotate_half": bool,
    "ref_feat_shape": GridSize | None,
}
_CONFIG = ConfigDict(strict=True, allow_inf_nan=False)


@functools.cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(ALLOWED[name], config=_CONFIG)


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse arguments of a backbone that do not shape it, or whose value cannot be.

    Args:
        arguments: Keyword arguments of a timm architecture.

    Raises:
        UnipError: One is not in :data:`ALLOWED`, has another type or is out of bounds; or the model would be far
            larger than any that is released.
    """
    for name, value in arguments.items():
        if name not in ALLOWED:
            raise UnipError(
                f"the backbone argument {str(name)[:80]!r} is not allowed: it does not shape a plain ViT",
                f"Allowed are {', '.join(ALLOWED)}.",
            )
        try:
            _adapter(name).validate_python(value)
        except ValidationError as error:
            shown = repr(value)
            allowed = dict.fromkeys(problem["msg"] for problem in error.errors(include_url=False))
            raise UnipError(
                f"the backbone argument {name} cannot be {shown if len(shown) < 80 else shown[:77] + '...'}",
                f"{'; or '.join(allowed)}.",
            ) from None
    count = _parameters(arguments)
    if count > MAX_PARAMETERS:
        raise UnipError(
            f"a backbone of {', '.join(f'{name} {value}' for name, value in arguments.items())} would have about "
            f"{count / 1e9:,.0f} billion parameters",
            f"At most {MAX_PARAMETERS / 1e9:.0f} billion are built.",
        )


def _parameters(arguments: Mapping[str, Any]) -> float:
    """Estimate the parameters of the blocks and the positions; what is not given is that of ViT-B/16."""
    width, depth = arguments.get("embed_dim", 768), arguments.get("depth", 12)
    image, patch = (_area(arguments.get(name, usual)) for name, usual in (("img_size", 224), ("patch_size", 16)))
    block = (4 + 2 * arguments.get("mlp_ratio", 4)) * width**2
    return float(depth * block + image / patch * width + 3 * patch * width)


def _area(size: int | list[int]) -> int:
    return size**2 if isinstance(size, int) else size[0] * size[1]
