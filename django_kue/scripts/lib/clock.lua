-- Redis's own time: no host's clock plays a part in leases, delays or order.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%d', now)
