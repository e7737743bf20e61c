-- Sends requests of one verb, each with a new request id, and counts the acknowledged ones.
-- Arguments: verb (check, reserve, release), tag (prefix of each request id), number of budgets,
-- number of the first request.

local thread_of_run

function setup(thread)
  thread_of_run = thread
end

function init(arguments)
  verb, tag, budgets, issued = arguments[1], arguments[2], tonumber(arguments[3]), tonumber(arguments[4])
  acknowledged, rejected, first_rejection = 0, 0, ""
  wrk.headers["Content-Type"] = "application/json"
end

local function body_of(number)
  local budget = number % budgets
  local request = tag .. number
  if verb == "check" then
    return '{"requestId":"' .. request .. '","userId":"user-1","userName":"Jane Doe","userEmail":"jane@example.com",'
      .. '"customerId":"bench","department":"Department ' .. budget .. '","fiscalPeriod":"Q1 2025","amount":12.5,'
      .. '"vendor":"Slack","purpose":"Team collaboration"}'
  elseif verb == "reserve" then
    return '{"budgetId":"budget-' .. budget .. '","amount":12.5,"requestId":"' .. request .. '","reason":"Slack - Team collaboration"}'
  end
  return '{"budgetId":"budget-' .. budget .. '","amount":12.5,"requestId":"' .. request .. '","action":"reject","reason":"Duplicate"}'
end

function request()
  local body = body_of(issued)
  issued = issued + 1
  return wrk.format("POST", "/api/budget/" .. verb, nil, body)
end

-- An error may have status 200 (a release of more than is reserved) with "success": false.
function response(status, headers, body)
  if status == 200 and string.find(body, '"success": *true') then
    acknowledged = acknowledged + 1
  else
    rejected = rejected + 1
    if rejected == 1 then
      first_rejection = status .. " " .. string.gsub(string.sub(body, 1, 300), "%s+", " ")
    end
  end
end

function done(summary, latency, requests)
  local run, lost = thread_of_run, summary.errors
  io.write(string.format("\nRESULT %d %d %d %d %d %d %d\n", summary.duration, latency:percentile(50), latency:percentile(99),
    run:get("acknowledged"), run:get("rejected"), lost.connect + lost.read + lost.write + lost.timeout, run:get("issued")))
  io.write("REJECTION " .. run:get("first_rejection") .. "\n")
end
