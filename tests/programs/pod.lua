-- SPDX-License-Identifier: Apache-2.0
-- For wrk: each answer is what was asked for and a number, and the numbers that one connection sees grow. Argument: the routes.
-- One connection a thread, so that answers come in the order of requests.
local threads = {}
answers, wrong, first_wrong = 0, 0, ""
local routes, n, last, asked = {}, 0, 0

function setup(thread)
	table.insert(threads, thread)
	thread:set("me", #threads)
end

function init(args)
	for i = 1, #args do
		routes[i] = args[i]
	end
end

function request()
	n = n + 1
	asked = me .. "-" .. n
	return wrk.format(nil, "/" .. routes[n % #routes + 1] .. "/" .. asked)
end

function response(status, _, body)
	local token, number = body:match("^(%S+) (%d+)\n$")
	answers = answers + 1
	if status ~= 200 or token ~= asked or tonumber(number) <= last then
		if wrong == 0 then
			first_wrong = "thread " .. me .. " asked " .. asked .. " after " .. last .. ": " .. status .. " " .. body:sub(1, 200)
		end
		wrong = wrong + 1
	else
		last = tonumber(number)
	end
end

function done(summary)
	local all = {answers = 0, wrong = 0}
	for _, thread in ipairs(threads) do
		all.answers = all.answers + thread:get("answers")
		all.wrong = all.wrong + thread:get("wrong")
		if thread:get("first_wrong") ~= "" then
			print(thread:get("first_wrong"))
		end
	end
	for _, kind in ipairs({"connect", "read", "write", "status", "timeout"}) do
		all[kind] = summary.errors[kind]
	end
	for k, v in pairs(all) do
		print(k .. "=" .. v)
	end
end
