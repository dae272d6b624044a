# SPDX-License-Identifier: Apache-2.0
"""relocate.lua when a call into Envoy fails, at every step: the request passes as it came, and is counted.

The filter runs in a real Envoy, behind a handle that raises an error at the step that the request names.
"""

from pathlib import Path

from overhop.sidecar.contexts import Relocation
from overhop.sidecar.filters import lua_source, whole_chain
from overhop.sidecar.protocols import upstream_protocol
from tests.e2e.envoy import require_envoy
from tests.sidecar.proxy import cluster, envoy, exchange, listener
from tests.sidecar.recorder import recording_http1

BREAKING = """
local whole = envoy_on_request
function envoy_on_request(handle)
  local real = handle:headers()
  local fails_at, step = tonumber(real:get("x-fails-at")), 0
  local function counted()
    step = step + 1
    if step == fails_at then error("broken at step " .. step) end
  end
  local headers = setmetatable({
    add = function(_, name, value) counted() real:add(name, value) end,
    remove = function(_, name) counted() real:remove(name) end,
  }, {
    __pairs = function()
      local following, held, first = pairs(real)
      return function(_, name) counted() return following(held, name) end, nil, first
    end,
  })
  whole({ headers = function() counted() return headers end })
end
"""
CONTEXT = b"b3: 0\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nb3: 1\r\n"
STEPS = 1 + 13 + 2 * 8
"""headers(), four pseudo headers, eight others and the end of the loop, and each of the eight out and in."""


def test_relocation_that_fails_at_any_step_lets_the_request_pass_unchanged_and_counts(tmp_path: Path) -> None:
    require_envoy()
    lua = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": lua_source(Relocation()) + BREAKING},
    }
    chain = whole_chain([{"name": "breaking", "typed_config": lua}])
    with recording_http1() as server:
        moved = cluster("moved", [server.port], upstream_protocol("h1") | {"http_filters": chain})
        with envoy(tmp_path, [listener("moved", {"cluster": "moved"})], [moved]) as proxy:
            for step in range(1, STEPS + 2):
                lines = b"host: shop\r\na: 1\r\n%sempty: \r\na: 2\r\nx-fails-at: %d\r\n" % (CONTEXT, step)
                answer = exchange(proxy.ports["moved"], b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
                assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
                came = b"GET / HTTP/1.1\r\n" + lines + b"x-forwarded-proto: http\r\n\r\n"
                if step <= STEPS:
                    assert server.heads[-1] == came, f"step {step}"
            assert proxy.statistic("cluster.moved.lua.errors") == STEPS
            assert "context not moved" in proxy.log.read_text()
    assert server.heads[-1].startswith(b"GET / HTTP/1.1\r\nhost: shop\r\ntraceparent: 00-0af7")
