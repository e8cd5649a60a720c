-- Shows V2V frames in Wireshark and tshark: docs/wire.md, field by field, and the fault of a malformed frame.
--
--   tshark -X lua_script:scripts/wireshark/v2v.lua -r load.pcap -Y 'v2v.opcode == 0x30 && v2v.meeting == 77'
--
-- or, permanently, copied to the folder of personal plugins (Help, About, Folders). A field has the same name everywhere: `v2v.meeting`
-- finds the header's meeting and those of a page's records. The tag
-- (AES-128-CMAC) is shown but not verified, because that needs the domain's secret.

local v2v = Proto("v2v", "V2V 2.0")
local probe = Proto("v2v_probe", "V2V Generator Probe")

v2v.prefs.ethertype = Pref.uint("EtherType", 0x88B5, "What V2V frames bear on this site")
probe.prefs.ports = Pref.range("UDP ports", "9", "Where the packet generator sends its probes", 65535)

---------------------------------------------------------------------------------------------------------------- values

local PACKETS = {
    [0x01] = "protocol", [0x02] = "unicast data", [0x03] = "multicast data",
    [0x81] = "protocol, metro", [0x82] = "unicast data, metro", [0x83] = "multicast data, metro",
    [0xBE] = "generator probe",
}
local STATUSES = {
    [0] = "OK", "UNKNOWN_MEETING", "STALE_EPOCH", "UNAUTHENTIC", "BUSY", "MALFORMED", "UNSUPPORTED_VERSION", "ALREADY",
    "CAPACITY", "UNKNOWN_TERMINAL", "CONFLICT",
}
local STATES = { [0] = "none", "prepared", "starting", "in meeting", "recovering", "ending", "ended", "missing" }
local BUSINESS = {
    [0] = "idle", "invited", "in meeting", "left", "live broadcast", "on demand or videophone", "offline", "fault",
}
local DECODE = { [0] = "stopped", "starting", "decoding", "stalled", "failed" }
local ROLES = { [0] = "participant", "chairman", "speaker one", "speaker two", "speaker three" }
local STREAMS = { [0] = "sub", "main" }
local LAYOUTS = {}
for _, windows in ipairs({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 64 }) do
    LAYOUTS[windows] = windows == 1 and "1 window" or windows .. " windows"
end
local LEVELS = { "1, the highest", "2", "3", "4", "5" }
local LINKS = { [0] = "parent", "child", "peer" }
local UP = { [0] = "down", "up" }

local ADDRESSES_BYTES, LABEL_BYTES, HEADER_BYTES, TAG_BYTES = 18, 4, 24, 16
local PROTOCOL_BYTES, DATA_BYTES = 64, 1056
local PAGE_AT, RECORDS_AT, RECORDS_BYTES = 24, 32, 1008
local STATE_BYTES, INFO_BYTES_MAX = 32, 64
local PROBE_MAGIC, PROBE_BYTES = 0xBE9BE955, 16

---------------------------------------------------------------------------------------------------------------- fields

-- By the name after "v2v.": its Wireshark field, its number of bytes, and its permitted values if not all are.
local fields = {}

local function number(name, label, bytes, values, radix)
    local kind = ({ "uint8", "uint16", [4] = "uint32", [8] = "uint64" })[bytes]
    local proto = ProtoField[kind]("v2v." .. name, label, radix or base.DEC, values)
    fields[name] = { proto = proto, bytes = bytes, values = values, label = label }
end

local function raw(name, label, bytes)
    fields[name] = { proto = ProtoField.bytes("v2v." .. name, label), bytes = bytes, label = label }
end

-- An epoch, as people write it: `3.7.beef`; its three parts are fields, too.
local function epoch(name, label)
    number(name, label, 8)
    fields[name].epoch = true
    number(name .. ".term", "Term", 4)
    number(name .. ".generation", "Generation", 2)
    number(name .. ".nonce", "Nonce", 2, nil, base.HEX)
end

-- An address, as people write it: `366/1001`. Its parts are fields, too.
local function address(name, label)
    fields[name] = { proto = ProtoField.string("v2v." .. name, label), bytes = 8, label = label, address = true }
end

local function flag(name, label, bit)
    fields[name] = { proto = ProtoField.bool("v2v." .. name, label, 8, nil, 2 ^ bit) }
end

number("type", "Packet type", 1, PACKETS, base.HEX)
address("dst", "Destination")
address("src", "Source")
number("domain", "Domain", 8)
number("device", "Device", 2)
number("reserved", "Reserved", 2, nil, base.HEX)
number("label", "Label", 4)
number("protocol_version", "Protocol version", 1)
number("opcode", "Opcode", 1, nil, base.HEX)
fields["opcode_name"] = { proto = ProtoField.string("v2v.opcode_name", "Opcode's name") }
number("status", "Status", 1, STATUSES)
number("header_flags", "Flags", 1, nil, base.HEX)
flag("header_flags.ack_now", "ACK_NOW: answer at once", 0)
flag("header_flags.answer", "ANSWER: to an opcode or version unknown", 7)
number("transaction", "Transaction", 4)
epoch("epoch", "Epoch")
number("meeting", "Meeting", 8)
raw("tag", "Tag (AES-128-CMAC, not verified)", TAG_BYTES)
raw("padding", "Padding")
number("page", "Page", 2)
number("pages", "Pages", 2)
number("records", "Records", 2)
number("record_len", "Record's length", 2)
fields["record"] = { proto = ProtoField.bytes("v2v.record", "Record") }

number("window", "Takeover pages outstanding", 2)
epoch("highest_epoch", "Highest epoch seen")
number("boot_generation", "Boot generation", 4)
number("age", "Since the highest epoch was heard of (0.1 ms, 65535: more)", 2)
number("held", "Meetings held", 4)
number("sent_ns", "Sent at (monotonic, ns)", 8)
number("first_meeting", "First meeting wanted", 8)
number("meeting_version", "Meeting's version", 8)
epoch("controller_epoch", "Controller's epoch")
number("run", "Run (0: started by the domain itself)", 8, nil, base.HEX)
number("state", "State", 1, STATES)
number("level", "Level", 1, LEVELS)
number("layout", "Layout", 1, LAYOUTS)
number("participants", "Participants", 2)
address("chairman", "Chairman")
number("count", "Meetings controlled", 4)
number("digest", "Digest", 8, nil, base.HEX)
address("terminal", "Terminal")
number("report_version", "Report's version", 4)
number("business", "Business", 1, BUSINESS)
number("decode", "Decoding", 1, DECODE)
number("role", "Role", 1, ROLES)
number("flags", "Terminal's flags", 1, nil, base.HEX)
number("flags_mask", "Flags to change", 1, nil, base.HEX)
for bit, of in ipairs({ "muted", "hand_raised", "recording", "online", "auxiliary", "audio" }) do
    local label = ({ "Muted", "Hand raised", "Recording", "Online", "Auxiliary stream", "Has audio" })[bit]
    flag("flags." .. of, label, bit - 1)
    flag("flags_mask." .. of, label, bit - 1)
end
number("channel", "Channel", 1)
number("stream", "Stream", 1, STREAMS)
number("window_number", "Window (255: none)", 1)
number("reason", "Reason", 1)
raw("info", "Information")
number("info_len", "Information's length", 2)
number("retry_after_ns", "Ask again after (ns)", 8)
number("sequence", "Sequence", 8)
number("incarnation", "Incarnation", 8, nil, base.HEX)
number("groups_digest", "Digest of the sender's groups", 8, nil, base.HEX)
number("link_domain", "Neighbour", 8)
number("link_label", "Label", 2)
number("link_cost", "Cost", 2)
number("link_kind", "Kind", 1, LINKS)
number("link_state", "State", 1, UP)
number("label_in", "Label in", 2)
number("label_out", "Label out", 2)
number("next_domain", "Next domain (0: remove)", 8)
fields["malformed"] = { proto = ProtoField.string("v2v.malformed", "Malformed") }

-- A domain's number has 40 bits; 0 means no domain.
fields.link_domain.domain = "needed"
fields.next_domain.domain = "or none"

-- The parts of a number on the wire: name, offset, bytes.
local PARTS = {
    header_flags = { { "header_flags.ack_now", 0, 1 }, { "header_flags.answer", 0, 1 } },
}
for _, name in ipairs({ "epoch", "highest_epoch", "controller_epoch" }) do
    PARTS[name] = { { name .. ".term", 0, 4 }, { name .. ".generation", 4, 2 }, { name .. ".nonce", 6, 2 } }
end
for _, name in ipairs({ "flags", "flags_mask" }) do
    PARTS[name] = {}
    for _, of in ipairs({ "muted", "hand_raised", "recording", "online", "auxiliary", "audio" }) do
        table.insert(PARTS[name], { name .. "." .. of, 0, 1 })
    end
end

local all = {}
for _, field in pairs(fields) do table.insert(all, field.proto) end
v2v.fields = all

-- HEARTBEAT_ACK has only its low half.
fields.boot_generation_low = { proto = fields.boot_generation.proto, bytes = 2, label = "Boot generation" }

local probe_fields = {
    magic = ProtoField.uint32("v2v_probe.magic", "Magic", base.HEX),
    sequence = ProtoField.uint32("v2v_probe.sequence", "Sequence"),
    seconds = ProtoField.uint32("v2v_probe.seconds", "Seconds"),
    microseconds = ProtoField.uint32("v2v_probe.microseconds", "Microseconds"),
    sent = ProtoField.absolute_time("v2v_probe.sent", "Sent at", base.UTC),
    padding = ProtoField.bytes("v2v_probe.padding", "Padding"),
}
probe.fields = probe_fields

-- The possible faults, by the names of Baton's counters.
local function experts_of(prefix, kinds)
    local made = {}
    for kind, text in pairs(kinds) do
        made[kind] = ProtoExpert.new(prefix .. ".expert." .. kind, text, expert.group.MALFORMED, expert.severity.ERROR)
    end
    return made
end

local experts = experts_of("v2v", {
    short = "shorter than its packet", packet_type = "unknown packet type", version = "another version",
    opcode = "unknown opcode", payload = "an opcode in the wrong payload", value = "a value out of its table",
    page = "a page that cannot be", record = "a record past its page",
})
v2v.experts = experts
local probe_experts = experts_of("v2v_probe", { short = "shorter than a probe", value = "microseconds that make a second" })
probe.experts = probe_experts

--------------------------------------------------------------------------------------------------------------- opcodes

-- Name, then the body's fields in their order; a page's record instead where there is one.
local function body(name, ...) return { name = name, fields = { ... } } end
local function page(name, record) return { name = name, record = record } end

local MEETING_SUMMARY = {
    name = "MeetingSummary", bytes = 48,
    fields = { "meeting", "meeting_version", "controller_epoch", "state", "level", "participants", "layout", 3, "chairman", "run" },
}
local TAKEOVER_ENTRY = { name = "TakeoverEntry", bytes = 16, fields = { "meeting", "meeting_version" } }
local TAKEOVER_RESULT = { name = "TakeoverResult", bytes = 16, fields = { "meeting", "status", "state", "participants" } }
local LINK = {
    name = "Link", bytes = 16, fields = { "link_domain", "link_label", "link_cost", "link_kind", "link_state" },
}
local REPORT_ACK = { name = "ReportAck", bytes = 16, fields = { "terminal", "report_version", "status" } }
-- Its length depends on that of its information.
local TERMINAL_STATE = {
    name = "TerminalState",
    fields = {
        "meeting", "terminal", "report_version", "business", "decode", "role", "flags", "channel", "stream", "info_len",
    },
}

local OPCODES = {
    [0x01] = body("CONNECT", "window"),
    [0x02] = body("CONNECT_ACK", "highest_epoch", "boot_generation", "held", "window"),
    [0x03] = body("HEARTBEAT", "sent_ns"),
    [0x04] = body("HEARTBEAT_ACK", "sent_ns", "held", "boot_generation_low", "age", "highest_epoch"),
    [0x10] = body("INFO_QUERY", "first_meeting"),
    [0x11] = page("INFO", MEETING_SUMMARY),
    [0x12] = body("TAKEOVER", "meeting_version"),
    [0x13] = body("TAKEOVER_ACK", "meeting_version", "state", "level", "participants"),
    [0x14] = page("TAKEOVER_BATCH", TAKEOVER_ENTRY),
    [0x15] = page("TAKEOVER_BATCH_ACK", TAKEOVER_RESULT),
    [0x16] = body("STATE_QUERY"),
    [0x17] = page("STATE", TERMINAL_STATE),
    [0x18] = body("REPLAY_DONE", "count", "digest"),
    [0x19] = body("AUDIT", "count", "digest"),
    [0x20] = body("MEETING_START", "level", "layout", "chairman", "participants", "run"),
    [0x21] = body("MEETING_START_ACK", "meeting_version"),
    [0x22] = body("MEMBER_ADD", "terminal", "role"),
    [0x23] = body("MEMBER_ADD_ACK", "meeting_version", "terminal"),
    [0x24] = body("MEMBER_REMOVE", "terminal"),
    [0x25] = body("MEMBER_REMOVE_ACK", "meeting_version", "terminal"),
    [0x26] = body("ROLE_SET", "terminal", "role"),
    [0x27] = body("ROLE_SET_ACK", "meeting_version", "terminal"),
    [0x28] = body("LAYOUT_SET", "layout"),
    [0x29] = body("LAYOUT_SET_ACK", "meeting_version"),
    [0x2A] = body("FLAGS_SET", "terminal", "flags_mask", "flags"),
    [0x2B] = body("FLAGS_SET_ACK", "meeting_version", "terminal"),
    [0x2C] = body("MEETING_END", "reason"),
    [0x2D] = body("MEETING_END_ACK", "meeting_version"),
    [0x2E] = body("WINDOW_SET", "terminal", "window_number"),
    [0x2F] = body("WINDOW_SET_ACK", "meeting_version", "terminal"),
    [0x30] = body("REPORT", "terminal", "report_version", "business", "decode", "role", "flags", "channel", "stream", "info"),
    [0x31] = body("REPORT_ACK", "terminal", "report_version"),
    [0x32] = page("REPORT_INFO", TERMINAL_STATE),
    [0x33] = body("REPORT_INFO_ACK", "terminal", "report_version"),
    [0x34] = page("REPORT_ACK_BATCH", REPORT_ACK),
    [0x3E] = body("PROBE", "sent_ns", "sequence"),
    [0x3F] = body("PROBE_ECHO", "sent_ns", "sequence"),
    [0x40] = body("STREAM_SET", "terminal", "stream", "channel"),
    [0x41] = body("STREAM_SET_ACK", "meeting_version", "terminal"),
    [0x42] = page("INFO_SET", TERMINAL_STATE),
    [0x43] = body("INFO_SET_ACK", "meeting_version", "terminal"),
    [0x44] = body("MEMBER_CALL", "terminal"),
    [0x45] = body("MEMBER_CALL_ACK", "meeting_version", "terminal"),
    [0x46] = body("TERMINAL_RELEASE", "terminal"),
    [0x47] = body("TERMINAL_RELEASE_ACK", "meeting_version", "terminal"),
    [0x50] = body("TOPOLOGY_QUERY"),
    [0x51] = page("TOPOLOGY", LINK),
    [0x52] = body("PATH_SET", "label_in", "label_out", "next_domain"),
    [0x53] = body("PATH_SET_ACK", "label_in"),
    -- From one dispatch server of a cluster to another, tagged under the cluster's secret.
    [0x60] = body("BEAT", "sent_ns", "incarnation", "groups_digest"),
}
-- The body of a refusal, by its status.
local REFUSALS = { [2] = { "highest_epoch" }, [4] = { "retry_after_ns" } }
-- A REPORT's information is the rest of its body.
local SHORT_INFO_BYTES = 6

-------------------------------------------------------------------------------------------------------------- dissection

-- A frame on display: its bytes, its tree, and its faults.
local Shown = {}
Shown.__index = Shown

function Shown:wrong(kind, text, tree)
    tree = tree or self.tree
    tree:add_proto_expert_info(experts[kind], text)
    tree:add(fields.malformed.proto, kind):set_generated()
    self.malformed = self.malformed or text
end

-- Shows a field; returns its number if a comparison needs it.
function Shown:field(tree, name, at)
    local field = fields[name]
    local bytes = field.bytes or SHORT_INFO_BYTES
    local range = self.bytes(at, bytes)
    if field.address then
        local device = range(6, 2):uint()
        local domain = range(1, 5):uint64()
        local text = tostring(domain) .. "/" .. device
        local item = tree:add(field.proto, range, text)
        item:add(fields.domain.proto, range(1, 5), domain)
        item:add(fields.device.proto, range(6, 2))
        return text, bytes
    end
    local item = tree:add(field.proto, range)
    if field.epoch then
        local text = string.format("%d.%d.%04x", range(0, 4):uint(), range(4, 2):uint(), range(6, 2):uint())
        item:append_text(" (" .. text .. ")")
    end
    for _, part in ipairs(PARTS[name] or {}) do
        item:add(fields[part[1]].proto, range(part[2], part[3]))
    end
    if field.domain and (range(0, 3):uint() ~= 0 or (field.domain ~= "or none" and range:uint64() == UInt64(0))) then
        self:wrong("value", field.label .. " is no domain", item)
    end
    if bytes > 4 then
        return bytes == 8 and tostring(range:uint64()) or nil, bytes
    end
    local value = range:uint()
    if field.values and not field.values[value] and not self.unread then
        self:wrong("value", string.format("%s %d is out of its table", field.label, value), item)
    end
    return value, bytes
end

-- Shows consecutive fields; a number among them skips that many bytes. Returns their values by name.
function Shown:fields(tree, names, at)
    local values = {}
    for _, name in ipairs(names) do
        if type(name) == "number" then
            at = at + name
        else
            local value, bytes = self:field(tree, name, at)
            values[name] = value
            at = at + bytes
        end
    end
    return values, at
end

-- A report without a version is invalid; a STATE may contain a terminal that has not reported.
function Shown:reported(opcode, values, tree)
    if (opcode == 0x30 or opcode == 0x32) and values.report_version == 0 then
        self:wrong("value", "Report's version 0 is that of a terminal that has not reported", tree)
    end
end

-- Shows a record; returns its length, or nothing if it ends after the page.
function Shown:record(opcode, record, index, at, past)
    local least = record.bytes or STATE_BYTES
    if at + least > past then
        self:wrong("record", string.format("record %d of %s ends behind the page", index, record.name))
        return nil
    end
    local tree = self.tree:add(fields.record.proto, self.bytes(at, least))
    local values, info_at = self:fields(tree, record.fields, at)
    tree:set_text(string.format("%s %d: %s", record.name, index, values.terminal or values.meeting or values.link_domain))
    self:reported(opcode, values, tree)
    if record.bytes then return least end

    local info = values.info_len
    local padded = math.ceil(info / 8) * 8
    if info > INFO_BYTES_MAX then
        self:wrong("record", string.format("%d bytes of information, at most %d", info, INFO_BYTES_MAX), tree)
        return nil
    end
    if at + STATE_BYTES + padded > past then
        self:wrong("record", string.format("record %d of %s ends behind the page", index, record.name), tree)
        return nil
    end
    if info > 0 then tree:add(fields.info.proto, self.bytes(at + STATE_BYTES, info)) end
    tree:set_len(STATE_BYTES + padded)
    return STATE_BYTES + padded
end

function Shown:page(opcode, record, payload)
    local values = self:fields(self.tree, { "page", "pages", "records", "record_len" }, payload + PAGE_AT)
    local summary = string.format(" page %d of %d, %d records", values.page + 1, values.pages, values.records)
    if values.page >= values.pages then
        return self:wrong("page", string.format("page %d, counted from 0, of %d", values.page, values.pages)) or summary
    end
    if values.records > 0 and values.record_len ~= (record.bytes or 0) then
        local text = "records of %d bytes, those of %s have %d"
        return self:wrong("record", text:format(values.record_len, record.name, record.bytes or 0)) or summary
    end
    if values.records * (record.bytes or STATE_BYTES) > RECORDS_BYTES then
        return self:wrong("page", string.format("%d records, more than a page holds", values.records)) or summary
    end
    local at = payload + RECORDS_AT
    local past = at + RECORDS_BYTES
    for index = 0, values.records - 1 do
        local bytes = self:record(opcode, record, index, at, past)
        if not bytes then break end
        at = at + bytes
    end
    return summary
end

-- Shows a complete payload; returns a line about it.
function Shown:payload(at, data)
    local tree = self.tree
    local version = self:field(tree, "protocol_version", at)
    local number = self.bytes(at + 1, 1):uint()
    local opcode = OPCODES[number]
    local name = opcode and opcode.name or string.format("opcode 0x%02x", number)
    tree:add(fields.opcode.proto, self.bytes(at + 1, 1)):append_text(" " .. name)
    tree:add(fields.opcode_name.proto, self.bytes(at + 1, 1), name):set_generated()
    -- The header of another version may have any meaning.
    self.unread = true
    local header = self:fields(tree, { "status", "header_flags", "transaction", "epoch", "meeting" }, at + 2)
    self.unread = false
    local line = name
    if header.meeting ~= "0" then line = line .. " meeting " .. header.meeting end

    if version ~= 2 then
        self:wrong("version", "version " .. version .. ", not 2")
        return line
    end
    local refused = header.status ~= 0 and header.status ~= 7 and STATUSES[header.status] ~= nil
    if header.status ~= 0 then line = line .. " " .. (STATUSES[header.status] or "status " .. header.status) end
    local answer = header.header_flags >= 0x80
    if not opcode and not (refused and answer) then
        self:wrong("opcode", string.format("unknown opcode 0x%02x", number))
        return line
    end
    if refused then
        self:fields(tree, REFUSALS[header.status] or {}, at + HEADER_BYTES)
        return line
    end
    if (opcode.record ~= nil) ~= data then
        self:wrong("payload", name .. " goes in a " .. (data and "protocol" or "data") .. " payload")
        return line
    end
    if not STATUSES[header.status] then
        self:wrong("value", "Status " .. header.status .. " is out of its table")
        return line
    end
    if opcode.record then return line .. self:page(number, opcode.record, at) end
    local values = self:fields(tree, opcode.fields, at + HEADER_BYTES)
    self:reported(number, values)
    if values.terminal then line = line .. " terminal " .. values.terminal end
    if values.report_version then line = line .. " version " .. values.report_version end
    if values.meeting_version then line = line .. " version " .. values.meeting_version end
    if values.sequence then line = line .. " sequence " .. values.sequence end
    return line
end

-- Shows a packet; returns a line about it.
function Shown:packet()
    local length = self.bytes:len()
    local kind = length > 0 and self.bytes(0, 1):uint()
    local data = kind and kind % 0x80 ~= 1
    local metro = kind and kind >= 0x80
    local payload = ADDRESSES_BYTES + (metro and LABEL_BYTES or 0)
    local past = payload + (data and DATA_BYTES or PROTOCOL_BYTES)

    if kind then
        local item = self.tree:add(fields.type.proto, self.bytes(0, 1))
        if length >= ADDRESSES_BYTES and (not PACKETS[kind] or kind == 0xBE) then
            local text = kind == 0xBE and "a generator probe comes over UDP" or string.format("packet type 0x%02x", kind)
            self:wrong("packet_type", text, item)
            return string.format("packet type 0x%02x", kind)
        end
    end
    if length < past then
        -- The bytes that the capture omitted were on the wire, and may have been right.
        if self.bytes:reported_len() >= past then
            self.tree:add_expert_info(PI_UNDECODED, PI_NOTE, "cut by the capture")
            return "cut by the capture"
        end
        self:wrong("short", kind and string.format("%d bytes, its packet has %d", length, past) or "no packet")
        return "short"
    end

    local dst = self:field(self.tree, "dst", 0)
    local src = self:field(self.tree, "src", 8)
    self:field(self.tree, "reserved", 16)
    if metro then self:field(self.tree, "label", ADDRESSES_BYTES) end
    local line = self:payload(payload, data)
    self.tree:add(fields.tag.proto, self.bytes(past - TAG_BYTES, TAG_BYTES))
    if length > past then self.tree:add(fields.padding.proto, self.bytes(past)) end
    return src .. " → " .. dst .. " " .. line
end

function v2v.dissector(bytes, info, root)
    info.cols.protocol = "V2V"
    local tree = root:add(v2v, bytes())
    local shown = setmetatable({ bytes = bytes, tree = tree }, Shown)
    local line = shown:packet()
    if shown.malformed then line = line .. " [malformed: " .. shown.malformed .. "]" end
    info.cols.info = line
    tree:append_text(", " .. line)
    return bytes:len()
end

-- A datagram that is not a probe is left to other dissectors.
function probe.dissector(bytes, info, root)
    if bytes:len() < 4 or bytes(0, 4):uint() ~= PROBE_MAGIC then return 0 end
    info.cols.protocol = "V2V probe"
    local tree = root:add(probe, bytes())
    tree:add(probe_fields.magic, bytes(0, 4))
    if bytes:len() < PROBE_BYTES then
        tree:add_proto_expert_info(probe_experts.short)
        info.cols.info = "Probe [malformed: shorter than a probe]"
        return bytes:len()
    end
    local sequence, seconds, microseconds = bytes(4, 4):uint(), bytes(8, 4):uint(), bytes(12, 4):uint()
    tree:add(probe_fields.sequence, bytes(4, 4))
    tree:add(probe_fields.seconds, bytes(8, 4))
    local fraction = tree:add(probe_fields.microseconds, bytes(12, 4))
    local line = "Probe " .. sequence
    if microseconds < 1000000 then
        tree:add(probe_fields.sent, bytes(8, 8), NSTime.new(seconds, microseconds * 1000)):set_generated()
    else
        fraction:add_proto_expert_info(probe_experts.value)
        line = line .. " [malformed: microseconds that make a second]"
    end
    if bytes:len() > PROBE_BYTES then tree:add(probe_fields.padding, bytes(PROBE_BYTES)) end
    tree:append_text(", sequence " .. sequence)
    info.cols.info = line
    return bytes:len()
end

----------------------------------------------------------------------------------------------------------- registration

local ethertypes, udp_ports = DissectorTable.get("ethertype"), DissectorTable.get("udp.port")
local ethertype, ports

local function register()
    if ethertype then ethertypes:remove(ethertype, v2v) end
    ethertype = v2v.prefs.ethertype
    ethertypes:add(ethertype, v2v)
    if ports then udp_ports:remove(ports, probe) end
    ports = probe.prefs.ports
    if ports ~= "" then udp_ports:add(ports, probe) end
end

v2v.prefs_changed = register
probe.prefs_changed = register
register()
