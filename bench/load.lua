-- wrk's side: request after request from a file of "path token" lines, with a body of so many
-- bytes where a second argument says so, and how many were answered with what. The last line of
-- the output is for bench/load.js.

local requests = {}
local turn = 0

function init(args)
  local bytes = tonumber(args[2] or "0")
  local method = bytes > 0 and "PUT" or "GET"
  local body = bytes > 0 and string.rep("x", bytes) or nil
  for line in io.lines(args[1]) do
    local path, token = line:match("^(%S+) (%S+)$")
    requests[#requests + 1] = wrk.format(method, path, { Authorization = "Bearer " .. token }, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, _)
  io.write(string.format(
    '{"requests":%d,"us":%d,"bytes":%d,"p50":%d,"p99":%d,"refused":%d,' ..
      '"failed":{"connect":%d,"read":%d,"write":%d,"timeout":%d}}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    summary.errors.status,
    summary.errors.connect, summary.errors.read, summary.errors.write, summary.errors.timeout
  ))
end
