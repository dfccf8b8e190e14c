-- SPDX-License-Identifier: MIT
--
-- Decodes what `ivshmctl capture -w` has written; docs/capture.md has the format of a record. For
-- Wireshark and tshark 3.6 and later, and each Lua that they are built with.
--
-- Whatever the bytes are, they are shown, and nothing is read that is not there: a damaged record is
-- marked (expert info), with what could be read of it.

local FIXED = 40 -- bytes before the texts
local NONE = 0xffffffff
local LOST = 9

local types = {
	"Message", "Joined", "Left", "Refused", "Rung", "Region created", "Region removed",
	"Region drains", "Lost", "Unwatched",
}
local messages = { "version", "own ID", "region", "connect", "leave" }
local descriptors = {
	[0] = "none", "memory", "memory, read-only", "doorbell", "doorbell of nobody",
}

local proto = Proto("ivshmem", "ivshmem control traffic and doorbells")

local fields = {
	version = ProtoField.uint8("ivshmem.version", "Format"),
	type = ProtoField.uint8("ivshmem.type", "Type", base.DEC, types),
	message = ProtoField.uint8("ivshmem.message", "Message", base.DEC, messages),
	descriptor = ProtoField.uint8("ivshmem.descriptor", "Descriptor", base.DEC, descriptors),
	peer = ProtoField.uint32("ivshmem.peer", "Peer"),
	serial = ProtoField.uint64("ivshmem.serial", "Serial number of its connection"),
	number = ProtoField.int64("ivshmem.number", "Number"),
	count = ProtoField.uint64("ivshmem.count", "Count"),
	vector = ProtoField.uint32("ivshmem.vector", "Vector"),
	uid = ProtoField.uint32("ivshmem.uid", "User"),
	pid = ProtoField.uint32("ivshmem.pid", "Process"),
	region = ProtoField.string("ivshmem.region", "Region", base.UNICODE),
	reason = ProtoField.string("ivshmem.reason", "Reason", base.UNICODE),
}
proto.fields = fields

local experts = {
	lost = ProtoExpert.new("ivshmem.lost", "Events were lost here",
		expert.group.SEQUENCE, expert.severity.WARN),
	unwatched = ProtoExpert.new("ivshmem.unwatched", "Doorbells that are not captured",
		expert.group.SEQUENCE, expert.severity.WARN),
	refused = ProtoExpert.new("ivshmem.refused", "A client was not let in",
		expert.group.RESPONSE_CODE, expert.severity.NOTE),
	damaged = ProtoExpert.new("ivshmem.damaged", "Damaged record",
		expert.group.MALFORMED, expert.severity.ERROR),
	unknown = ProtoExpert.new("ivshmem.unknown", "A format or type that this dissector does not know",
		expert.group.UNDECODED, expert.severity.WARN),
}
proto.experts = experts

-- What a record says in one line.
local describe = {
	[1] = function(r)
		local text = (messages[r.message] or "message ?") .. " " .. tostring(r.number)
		if r.vector ~= NONE then
			text = text .. ", vector " .. r.vector
		end
		if r.descriptor ~= 0 then
			text = text .. ", with " .. (descriptors[r.descriptor] or "a descriptor ?")
		end
		return text
	end,
	[2] = function() return "joins" end,
	[3] = function(r) return "leaves: " .. r.reason end,
	[4] = function(r) return "refused: " .. r.reason end,
	[5] = function(r) return "rung, vector " .. r.vector end,
	[6] = function() return "region is created" end,
	[7] = function() return "region is removed" end,
	[8] = function() return "region lets nobody in any more" end,
	[9] = function(r) return tostring(r.count) .. " events were lost here" end,
	[10] = function(r) return tostring(r.count) .. " doorbells are not captured" end,
}

-- A text, or what there is of it; and whether all of it is there.
local function add_text(tree, field, tvb, from, length)
	local there = math.max(0, math.min(length, tvb:len() - from))
	if there == 0 then
		return "", length == 0
	end
	local range = tvb(from, there)
	tree:add(field, range)
	return range:string(ENC_UTF_8), there == length
end

local function add_fixed(tree, tvb)
	local r = {
		type = tvb(1, 1):uint(),
		message = tvb(2, 1):uint(),
		descriptor = tvb(3, 1):uint(),
		peer = tvb(4, 4):le_uint(),
		number = tvb(16, 8):le_int64(),
		count = tvb(16, 8):le_uint64(),
		vector = tvb(24, 4):le_uint(),
		uid = tvb(28, 4):le_uint(),
		pid = tvb(32, 4):le_uint(),
	}
	tree:add(fields.type, tvb(1, 1))
	if r.type == 1 then
		tree:add(fields.message, tvb(2, 1))
		tree:add(fields.descriptor, tvb(3, 1))
	end
	if r.peer ~= NONE then
		tree:add_le(fields.peer, tvb(4, 4))
		tree:add_le(fields.serial, tvb(8, 8))
	end
	if r.type == 1 then
		tree:add_le(fields.number, tvb(16, 8))
	elseif r.type >= LOST then
		tree:add_le(fields.count, tvb(16, 8))
	end
	if r.vector ~= NONE then
		tree:add_le(fields.vector, tvb(24, 4))
	end
	if r.uid ~= NONE then
		tree:add_le(fields.uid, tvb(28, 4))
	end
	if r.pid ~= 0 then
		tree:add_le(fields.pid, tvb(32, 4))
	end
	return r
end

local function add_experts(tree, r, whole)
	if r.type == 4 then
		tree:add_proto_expert_info(experts.refused)
	elseif r.type == LOST then
		tree:add_proto_expert_info(experts.lost)
	elseif r.type == 10 then
		tree:add_proto_expert_info(experts.unwatched)
	end
	if not describe[r.type] then
		tree:add_proto_expert_info(experts.unknown)
	end
	if not whole then
		tree:add_proto_expert_info(experts.damaged)
	end
end

function proto.dissector(tvb, pinfo, root)
	local tree = root:add(proto, tvb())

	pinfo.cols.protocol = "ivshmem"
	if tvb:len() > 0 then
		tree:add(fields.version, tvb(0, 1))
	end
	if tvb:len() > 0 and tvb(0, 1):uint() ~= 1 then
		tree:add_proto_expert_info(experts.unknown)
		pinfo.cols.info = "a format that is not known"
		return
	end
	if tvb:len() < FIXED then
		tree:add_proto_expert_info(experts.damaged)
		pinfo.cols.info = "damaged record"
		return
	end

	local r = add_fixed(tree, tvb)
	local length = tvb(36, 1):uint()
	local region, region_whole = add_text(tree, fields.region, tvb, FIXED, length)
	local reason, reason_whole =
		add_text(tree, fields.reason, tvb, FIXED + length, tvb(38, 2):le_uint())
	r.reason = reason
	add_experts(tree, r, region_whole and reason_whole)

	local text = describe[r.type] and describe[r.type](r) or "type " .. r.type
	local peer = r.peer ~= NONE and "peer " .. r.peer or ""
	pinfo.cols.src = region ~= "" and region or "server"
	pinfo.cols.dst = peer
	pinfo.cols.info = peer ~= "" and peer .. ": " .. text or text
	tree:append_text(", " .. text)
end

-- LINKTYPE_USER7, which such files have.
DissectorTable.get("wtap_encap"):add((wtap_encaps or wtap).USER7, proto)
