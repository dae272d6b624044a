# SPDX-License-Identifier: Apache-2.0
"""The filters of an Envoy that put context at the head, as data (pure but for reading relocate.lua)."""

import json
from pathlib import Path
from typing import Final, Literal, get_args

from overhop.sidecar.contexts import Relocation

Variant = Literal["lua", "native"]
Mode = Literal["off", "lua", "native"]
VARIANTS: Final[tuple[Variant, ...]] = get_args(Variant)
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
PATCH: Final = Path(__file__).parents[2] / "sidecar-patch"
"""What runs inside the proxy; beside the packages in a checkout and in a wheel."""
MODULE: Final = "relocate"
FILTER_NAMES: Final[dict[Variant, str]] = {"lua": "overhop.relocate.lua", "native": "overhop.relocate.native"}
_TYPE: Final = "type.googleapis.com/envoy.extensions.filters.http"

Data = dict[str, object]


def upstream_filters(variant: Mode, relocation: Relocation) -> list[Data]:
    """What stands before the codec in an upstream filter chain; nothing if it is off."""
    if variant == "off":
        return []
    return [_lua(relocation) if variant == "lua" else _native(relocation)]


def whole_chain(filters: list[Data]) -> list[Data]:
    """With the codec, which Envoy wants last where a chain is given."""
    kind = f"{_TYPE}.upstream_codec.v3.UpstreamCodec"
    return [*filters, {"name": "envoy.filters.http.upstream_codec", "typed_config": {"@type": kind}}]


def lua_source(relocation: Relocation) -> str:
    """relocate.lua, told the headers. Names are tokens, so that their JSON strings are strings of Lua too."""
    names = ", ".join(json.dumps(name) for name in relocation.headers)
    return f"local CONTEXT_HEADERS = {{{names}}}\n" + (PATCH / "relocate.lua").read_text()


def _lua(relocation: Relocation) -> Data:
    config = {
        "@type": f"{_TYPE}.lua.v3.Lua",
        "default_source_code": {"inline_string": lua_source(relocation)},
    }
    return {"name": FILTER_NAMES["lua"], "typed_config": config}


def _native(relocation: Relocation) -> Data:
    """Found by its name in the directory that ENVOY_DYNAMIC_MODULES_SEARCH_PATH names."""
    config = {
        "@type": f"{_TYPE}.dynamic_modules.v3.DynamicModuleFilter",
        "dynamic_module_config": {"name": MODULE},
        "filter_name": MODULE,
        "filter_config": {
            "@type": "type.googleapis.com/google.protobuf.StringValue",
            "value": ",".join(relocation.headers),
        },
    }
    return {"name": FILTER_NAMES["native"], "typed_config": config}
