-- What a milter is asked and answers, step by step: `miltertest -D SOCKET=inet:port@127.0.0.1 -s verdicts.lua`.
-- The plugin is tests/milter_says.py.

local function check(what, is_so)
	if not is_so then
		mt.echo("not so: " .. what) -- miltertest itself tells nothing of an error
		error(what, 2)
	end
end

local function open()
	local conn = mt.connect(SOCKET, 40, 0.25)
	check("no connection", conn ~= nil)
	check("negotiation", mt.negotiate(conn, nil, nil, nil) == nil)
	return conn
end

local function client(conn, address, name)
	check("conninfo", mt.conninfo(conn, "client.test", address) == nil)
	local reply = mt.getreply(conn)
	if reply ~= SMFIR_CONTINUE then
		return reply
	end
	check("helo", mt.helo(conn, name) == nil)
	return mt.getreply(conn)
end

local function envelope(conn, sender, ...)
	mt.macro(conn, SMFIC_MAIL, "i", "test-id", "{auth_type}", "PLAIN")
	check("mailfrom", mt.mailfrom(conn, sender, "SIZE=100") == nil)
	local reply = mt.getreply(conn)
	for _, recipient in ipairs({...}) do
		check("rcptto", mt.rcptto(conn, recipient) == nil)
		reply = mt.getreply(conn)
	end
	return reply
end

local function content(conn, subject)
	check("header", mt.header(conn, "From", "user@client.test") == nil)
	check("header", mt.header(conn, "Subject", subject) == nil)
	check("header", mt.header(conn, "X-Gone", "1") == nil)
	check("eoh", mt.eoh(conn) == nil)
	check("body", mt.bodystring(conn, "This is a test!\r\n") == nil)
	check("body", mt.bodyrandom(conn, 200000) == nil)
	check("eom", mt.eom(conn) == nil)
	return mt.getreply(conn)
end

mt.echo("*** negotiation")
local conn = open()
check("no answers to fields", mt.test_option(conn, SMFIP_NR_HDR))
check("space behind the colon", mt.test_option(conn, SMFIP_HDR_LEADSPC))
check("all fields are wanted", not mt.test_option(conn, SMFIP_NOHDRS))
check("may add fields", mt.test_action(conn, SMFIF_ADDHDRS))
check("may take recipients away", mt.test_action(conn, SMFIF_DELRCPT))

mt.echo("*** a message that passes")
check("client", client(conn, "192.0.2.1", "client.test") == SMFIR_CONTINUE)
check("envelope", envelope(conn, "<a@client.test>", "<b@example.test>") == SMFIR_CONTINUE)
check("passes", content(conn, " hello") == SMFIR_ACCEPT)
check("untouched", not mt.eom_check(conn, MT_HDRINSERT) and not mt.eom_check(conn, MT_HDRCHANGE) and not mt.eom_check(conn, MT_BODYCHANGE))

mt.echo("*** edits")
check("envelope", envelope(conn, "<a@client.test>", "<b@example.test>", "<drop-c@example.test>") == SMFIR_CONTINUE)
check("passes", content(conn, " edit") == SMFIR_ACCEPT)
check("added", mt.eom_check(conn, MT_HDRINSERT, "X-First", " 1", 0))
check("folded", mt.eom_check(conn, MT_HDRINSERT, "X-Second", " two\n lines"))
check("changed", mt.eom_check(conn, MT_HDRCHANGE, "Subject", " [EXTERNAL] edit"))
check("removed", mt.eom_check(conn, MT_HDRDELETE, "X-Gone"))
check("taken away", mt.eom_check(conn, MT_RCPTDELETE, "<drop-c@example.test>"))
check("body", not mt.eom_check(conn, MT_BODYCHANGE))

mt.echo("*** another envelope")
check("envelope", envelope(conn, "<a@client.test>", "<rename@example.test>", "<more@example.test>") == SMFIR_CONTINUE)
check("passes", content(conn, " hello") == SMFIR_ACCEPT)
check("renamed", mt.eom_check(conn, MT_RCPTDELETE, "<rename@example.test>") and mt.eom_check(conn, MT_RCPTADD, "<new@example.test>"))
check("one more", mt.eom_check(conn, MT_RCPTADD, "<extra@example.test>"))

mt.echo("*** held, refused, given up")
check("envelope", envelope(conn, "<a@client.test>", "<hold-b@example.test>") == SMFIR_CONTINUE)
check("held by us", content(conn, " hello") == SMFIR_DISCARD)
check("envelope", envelope(conn, "<a@client.test>", "<b@example.test>") == SMFIR_CONTINUE)
check("abort", mt.abort(conn) == nil)
check("envelope", envelope(conn, "<a@client.test>", "<refuse-b@example.test>") == SMFIR_CONTINUE)
check("refused", content(conn, " hello") == SMFIR_REPLYCODE)
check("recipient", envelope(conn, "<a@client.test>", "<reject@example.test>") == SMFIR_REPLYCODE)
check("sender", envelope(conn, "<reject@client.test>") == SMFIR_REPLYCODE)
mt.disconnect(conn)

mt.echo("*** refused clients")
conn = open()
check("client", client(conn, "192.0.2.66", "client.test") == SMFIR_REPLYCODE)
mt.disconnect(conn)
conn = open()
check("name", client(conn, "192.0.2.1", "bad.test") == SMFIR_REPLYCODE)
mt.disconnect(conn)

mt.echo("*** of no known family, and cut off in the middle")
conn = open()
check("client", client(conn, "unspec", "client.test") == SMFIR_CONTINUE)
check("envelope", envelope(conn, "<a@client.test>", "<b@example.test>") == SMFIR_CONTINUE)
mt.disconnect(conn, false)

mt.echo("*** an older version")
conn = mt.connect(SOCKET, 40, 0.25)
check("negotiation", mt.negotiate(conn, 2, SMFIF_ADDHDRS, 0) == nil)
check("client", client(conn, "192.0.2.1", "client.test") == SMFIR_CONTINUE)
check("envelope", envelope(conn, "<a@client.test>", "<b@example.test>") == SMFIR_CONTINUE)
check("put off: fields cannot be changed", content(conn, "edit") == SMFIR_REPLYCODE)
mt.disconnect(conn)
