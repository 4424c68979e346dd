-- Asks through the proxy in absolute form and looks at each answer: status, body, and that a decision is named.
local url, authority, answer, decided = os.getenv("BENCH_URL"), os.getenv("BENCH_AUTHORITY"), os.getenv("BENCH_ANSWER"), os.getenv("BENCH_DECIDED")
local threads = {}
wrong = 0

function setup(thread)
  table.insert(threads, thread)
end

function init()
  wrk.headers["Host"] = authority
  request_bytes = wrk.format("GET", url)
end

function request()
  return request_bytes
end

function response(status, headers, body)
  if status ~= 200 or body ~= answer or (decided == "1") ~= (headers["x-sallyport-decision"] ~= nil) then
    wrong = wrong + 1
  end
end

function done(summary, latency)
  local bad = 0
  for _, thread in ipairs(threads) do bad = bad + thread:get("wrong") end
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"wrong":%d,"errors":%d,"p50_us":%.1f,"p99_us":%.1f}\n',
    summary.requests, summary.duration / 1e6, bad,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
