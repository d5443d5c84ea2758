"""Binary glTF 2.0: one mesh with vertex colours."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOAT, _UINT16, _UINT32 = 5126, 5123, 5125
_ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER = 34962, 34963
_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942


def write_glb(
    path: Path,
    vertices: NDArray[np.float64],
    triangles: NDArray[np.int32],
    colours: NDArray[np.float64],
) -> None:
    """Write a coloured mesh.

    Args:
        path: The file to write.
        vertices: (v 3), metres, glTF axes: +y up, +z towards the viewer.
        triangles: (t 3), counter-clockwise seen from outside.
        colours: (v 3), sRGB in [0, 1].

    Source: Khronos, glTF 2.0 specification, sections 3.6, 3.7 and 4.
    """
    # glTF multiplies vertex colours in linear light; 16 bits keep dark tones apart there.
    rgba = np.full((len(colours), 4), 65535, "<u2")
    rgba[:, :3] = np.round(linear_from_srgb(colours) * 65535)
    blocks: list[NDArray[Any]] = [vertices.astype("<f4"), rgba, triangles.astype("<u4").reshape(-1)]
    text = json.dumps(_document(blocks), separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    # All blocks are multiples of four bytes, so that the binary chunk needs no padding.
    binary = b"".join(block.tobytes() for block in blocks)
    chunks = struct.pack("<II", len(text), _JSON_CHUNK) + text
    chunks += struct.pack("<II", len(binary), _BINARY_CHUNK) + binary
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks)


def _document(blocks: list[NDArray[Any]]) -> dict[str, Any]:
    """Describe positions, colours and indices that lie behind each other in one buffer."""
    positions, colours, indices = blocks
    views, offset = [], 0
    for block, target in zip(blocks, (_ARRAY_BUFFER, _ARRAY_BUFFER, _ELEMENT_ARRAY_BUFFER), strict=True):
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": block.nbytes, "target": target})
        offset += block.nbytes
    return {
        "asset": {"version": "2.0", "generator": "worldstereo"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "scene"}],
        "meshes": [{"primitives": [
            {"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}
        ]}],
        # The photo already holds the light; what it never saw from behind is still drawn.
        "materials": [{"doubleSided": True, "extensions": {"KHR_materials_unlit": {}},
                       "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}],
        "accessors": [
            {"bufferView": 0, "componentType": _FLOAT, "count": len(positions), "type": "VEC3",
             "min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()},
            {"bufferView": 1, "componentType": _UINT16, "count": len(colours), "type": "VEC4",
             "normalized": True},
            {"bufferView": 2, "componentType": _UINT32, "count": len(indices), "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": offset}],
    }  # fmt: skip


def linear_from_srgb(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Decode sRGB values in [0, 1] to linear light.

    Source: IEC 61966-2-1.
    """
    encoded = np.clip(colours, 0, 1)
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
