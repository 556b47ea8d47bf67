-- wrk's side of bench/origin.js. The file's first line is the method, and each further one a
-- request: path, assertion, authorization and body, with tabs between and "-" for none. In the
-- mode "refresh" the bodies are refresh tokens instead: each is shown once, the one of the
-- answer goes to the end of the row, and what is left is written back for the next round.

local AGENT = "portcullis-bench"

local threads = {}

function setup(thread)
  threads[#threads + 1] = thread
end

local function format(method, path, assertion, authorization, body)
  local headers = { ["X-Forwarded-For"] = "127.0.0.1", ["User-Agent"] = AGENT }
  if assertion ~= "-" then headers["X-Gateway-Assertion"] = assertion end
  if authorization ~= "-" then headers["Authorization"] = authorization end
  if body ~= "-" then headers["Content-Type"] = "application/json" end
  return wrk.format(method, path, headers, body ~= "-" and body or nil)
end

-- Global, so that done(), which runs elsewhere, can ask for them.
tokens = {}
first = 1
last = 0

local function init_refresh(lines)
  local path, assertion
  for line in lines do
    if path == nil then
      path, assertion = line:match("^(%S+)\t(%S+)$")
    else
      last = last + 1
      tokens[last] = line
    end
  end
  function request()
    -- None left: an empty one is refused, and the run is no measurement.
    local token = tokens[first] or ""
    tokens[first] = nil
    if first <= last then first = first + 1 end
    return format("POST", path, assertion, "-", '{"refresh_token":"' .. token .. '"}')
  end
  function response(status, _, body)
    local token = status == 200 and body:match('"refresh_token":"([^"]+)"')
    if token then
      last = last + 1
      tokens[last] = token
    end
  end
end

local function init_repeat(method, lines)
  local requests, turn = {}, 0
  for line in lines do
    requests[#requests + 1] = format(method, line:match("^(%S+)\t(%S+)\t([^\t]+)\t(.+)$"))
  end
  function request()
    turn = turn % #requests + 1
    return requests[turn]
  end
end

function init(args)
  local lines = io.lines(args[1])
  local method = lines()
  kept = ""
  if method == "refresh" then
    kept = args[1]
    init_refresh(lines)
  else
    init_repeat(method, lines)
  end
end

function done(summary, latency, _)
  local kept = threads[1]:get("kept")
  if kept ~= "" then
    local tokens, file = threads[1]:get("tokens"), io.open(kept, "w")
    for index = threads[1]:get("first"), threads[1]:get("last") do
      file:write(tokens[index], "\n")
    end
    file:close()
  end
  io.write(string.format(
    '{"requests":%d,"us":%d,"p50":%d,"p99":%d,"failed":%d,"refused":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    summary.errors.status
  ))
end
