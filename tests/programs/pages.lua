-- SPDX-License-Identifier: Apache-2.0
-- For wrk: pages at random, directly and by way of a second server, and whether each answer is the page that was asked for.
-- Arguments: the folder of the pages and their names. One connection a thread, so that answers come in the order of requests.
local threads, pages, names = {}, {}, {}
answers, wrong = 0, 0

function setup(thread)
	table.insert(threads, thread)
end

function init(args)
	for i = 2, #args do
		local f = assert(io.open(args[1] .. "/" .. args[i], "rb"))
		pages[args[i]] = f:read("*a")
		names[i - 1] = args[i]
		f:close()
	end
	math.randomseed(os.time())
end

function request()
	asked = names[math.random(#names)]
	return wrk.format(nil, (math.random(2) == 1 and "/" or "/through/") .. asked)
end

function response(status, _, body)
	answers = answers + 1
	if status ~= 200 or body ~= pages[asked] then
		wrong = wrong + 1
	end
end

function done(summary)
	local all = {answers = 0, wrong = 0}
	for _, thread in ipairs(threads) do
		all.answers = all.answers + thread:get("answers")
		all.wrong = all.wrong + thread:get("wrong")
	end
	for _, kind in ipairs({"connect", "read", "write", "status", "timeout"}) do
		all[kind] = summary.errors[kind]
	end
	for k, v in pairs(all) do
		print(k .. "=" .. v)
	end
end
