"""The dtypes of safetensors, their sizes, and how torch spells them."""

from __future__ import annotations

# bits of one element, in the order in which safetensors ranks dtypes: its writer puts the last of these first
BITS = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
RANK = {dtype: rank for rank, dtype in enumerate(BITS)}

TORCH = {
    "BOOL": "bool",
    "F4": "float4_e2m1fn_x2",
    # torch has no six-bit dtypes; these are what it would call them
    "F6_E2M3": "float6_e2m3fn",
    "F6_E3M2": "float6_e3m2fn",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
_SAFETENSORS = {torch: safetensors for safetensors, torch in TORCH.items()}


def torch_dtype(dtype: str) -> str:
    """A safetensors dtype as torch spells it.

    >>> torch_dtype("BF16"), torch_dtype("F8_E4M3")
    ('bfloat16', 'float8_e4m3fn')
    """
    return TORCH[dtype]


def safetensors_dtype(dtype: str) -> str | None:
    """A torch dtype as safetensors spells it, or None where the format has none.

    >>> safetensors_dtype("bfloat16"), safetensors_dtype("complex128")
    ('BF16', None)
    """
    return _SAFETENSORS.get(dtype)


def bits_of(dtype: str) -> int:
    """Bits of one element of a torch dtype, or 0 for what is none.

    >>> bits_of("bfloat16"), bits_of("complex128"), bits_of("load")
    (16, 128, 0)
    """
    spelled = _SAFETENSORS.get(dtype)
    # torch's element of F4 is a pair
    return 128 if dtype == "complex128" else 8 if spelled == "F4" else BITS.get(spelled or "", 0)


def torch_shape(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that torch gives a tensor of this safetensors dtype and shape.

    The two differ for F4 only: safetensors counts elements, torch counts pairs of them along the last dimension.

    >>> torch_shape("F4", (2, 12)), torch_shape("F32", (2, 12))
    ((2, 6), (2, 12))
    """
    if dtype == "F4" and shape:
        return (*shape[:-1], shape[-1] // 2)
    return shape


def safetensors_shape(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Inverse of `torch_shape`; `dtype` is the safetensors spelling.

    >>> safetensors_shape("F4", (2, 6))
    (2, 12)
    """
    if dtype == "F4" and shape:
        return (*shape[:-1], shape[-1] * 2)
    return shape
