-- For wrk: an optional pause before each request (first argument, milliseconds on average), and the figures as JSON.
function init(args)
   local pause = tonumber(args[1]) or 0
   if pause > 0 then
      math.randomseed(pause)
      delay = function() return math.random(0, 2 * pause) end
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
      summary.requests, summary.duration / 1e6, errors.status,
      errors.connect + errors.read + errors.write,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end
