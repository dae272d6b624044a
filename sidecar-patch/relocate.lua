-- SPDX-License-Identifier: Apache-2.0
-- Puts trace context directly behind the pseudo headers and host of a request (docs/sidecar.md).
--
-- For Envoy's upstream HTTP filters, after the tracer has written the context. CONTEXT_HEADERS is set by a line that
-- `overhop sidecar render` writes before this file: names in lower case, in the order in which they shall lead.
--
-- A header map has no insert, only an add at the end. So what stands before the context is taken out and added again.
-- Every call here leaves the virtual machine: one to read each header, two for each that moves, none if all is well.

local COLON = string.byte(":")
local byte, error, pairs, pcall, sort, tostring = string.byte, error, pairs, pcall, table.sort, tostring

local place_of = {}
for place, name in ipairs(CONTEXT_HEADERS) do
  place_of[name] = place
end

-- What was read of the request at hand, and which of it is renewed. No call here yields, so that no two requests meet
-- in these tables; making them anew for each request would cost 1 us more.
local names, values, order = {}, {}, {}

-- Removes what `order` says (a second removal of a name does nothing), then adds all of it, in that order.
local function renew(headers, count)
  local add, remove = headers.add, headers.remove
  for at = 1, count do
    remove(headers, names[order[at]])
  end
  for at = 1, count do
    local which = order[at]
    add(headers, names[which], values[which])
  end
end

-- Contexts first, in the order of their places. Equal names keep their order: the first still wins.
local function order_contexts(count)
  local contexts = {}
  for at = 1, count do
    if place_of[names[at]] then
      contexts[#contexts + 1] = at
    end
  end
  sort(contexts, function(one, other)
    local first, second = place_of[names[one]], place_of[names[other]]
    return first < second or (first == second and one < other)
  end)
  for at = 1, #contexts do
    order[at] = contexts[at]
  end
  return #contexts
end

-- All that is no context has to go behind it; contexts stay where they are if they are in order among themselves.
local function plan(contexts_in_order, count)
  local moved = contexts_in_order and 0 or order_contexts(count)
  for at = 1, count do
    if not place_of[names[at]] then
      moved = moved + 1
      order[moved] = at
    end
  end
  return moved
end

-- Everything as it was read, whatever the failed move has done to it.
local function restore(headers, count)
  for at = 1, count do
    order[at] = at
  end
  renew(headers, count)
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local count, contexts, others, last_place = 0, 0, 0, 0
  local leads, contexts_in_order = true, true
  for name, value in pairs(headers) do
    if byte(name) ~= COLON then
      count = count + 1
      names[count], values[count] = name, value
      local place = place_of[name]
      if not place then
        others = others + 1
      else
        contexts = contexts + 1
        leads = leads and others == 0
        contexts_in_order = contexts_in_order and place >= last_place
        last_place = place
      end
    end
  end
  if contexts == 0 or (leads and contexts_in_order) then
    return
  end
  local is_moved, reason = pcall(renew, headers, plan(contexts_in_order, count))
  if not is_moved then
    restore(headers, count)
    -- Envoy counts it (the filter's statistic `errors`), logs it, and sends the request.
    error("context not moved: " .. tostring(reason), 0)
  end
end
