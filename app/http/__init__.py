"""The HTTP server: waitress with the changes below, admission of predictions, and what all responses share.

The way of a request:

1. `Listener` (listener.py) listens on the addresses of HOST (binding.py), and accepts a connection as a
   `Channel` (channel.py). At the limit of connections, it closes the least valuable one for that
   (eviction.py).
2. The event loop in `Server.run` (server.py) receives the header of a `Request` (request.py); first_line.py
   detects other protocols. Then `Gate` (gate.py) checks the key, the rate and the announced length, for the
   client that addresses.py finds.
3. The event loop receives the body, with chunked.py if it is chunked. Its bytes count for the `BodyBudget`
   (body_budget.py) until the request is closed.
4. The complete request goes to `Listener.add_task`. If a prediction's body has a URL, fetching.py fetches the
   photo first, in a thread of its own. A prediction goes to `Admission` (admission.py): a worker
   thread predicts it now or from the queue. The event loop's own thread answers probes and rejected requests;
   other requests go to waitress's threads.
5. The thread calls `Channel.service`, which calls the Flask app by WSGI (tasks.py).

A rejected prediction takes the same way, so that it gets what every response gets: authentication before
anything else, CORS and security headers, its id, a log line, metrics. `Request.rejection` holds the reason (a
`RejectedError`), `environ[REJECTION]` carries it into the app, and /predict raises it before it reads the
body. What the gate, the budget or waitress rejects is `Request.error`. The event loop's thread answers it
without the app, closes the connection, and looks at nothing that the client sends after it.

Only this package uses waitress. It depends on these internals of waitress, which no version promises to keep.
So waitress is pinned, and tests/app/http/test_waitress_internals.py checks that each name exists:
"""

WAITRESS = "3.0.2"
"""The version that this package was written for."""

INTERNALS = {
    "adjustments.Adjustments": "the settings; `create_server` always makes waitress's own server class",
    "wasyncore.loop": "one turn of the event loop, so that our loop can drain and time out the queue",
    "wasyncore.close_all": "closes every connection at the end",
    "wasyncore.dispatcher": "base class of the second listening socket, for the other family of addresses",
    "wasyncore.dispatcher.accept": "called: accepts one of its connections",
    "wasyncore.dispatcher.accepting": "set: it is a listening socket",
    "wasyncore.dispatcher.del_channel": "called: takes it out of the event loop",
    "wasyncore.dispatcher.handle_accept": "overridden: the Listener accepts its connections",
    "wasyncore.dispatcher.readable": "overridden: it stops when the Listener does",
    "wasyncore.dispatcher.writable": "overridden: it never sends",
    "server.TcpWSGIServer": "base class of Listener",
    "server.TcpWSGIServer.add_task": "overridden: decides which thread answers a request",
    "server.TcpWSGIServer.handle_accept": "overridden: connections are accepted after the others were served",
    "server.TcpWSGIServer.accept": "called: accepts one connection",
    "server.TcpWSGIServer.set_socket_options": "overridden: for an accepted connection",
    "server.TcpWSGIServer.maintenance": "overridden: fails when a thread closes a connection",
    "server.TcpWSGIServer.readable": "overridden: waitress stops accepting connections at the limit",
    "server.TcpWSGIServer.accepting": "read: whether the socket listens",
    "server.TcpWSGIServer.channel_class": "set to Channel",
    "server.TcpWSGIServer.pull_trigger": "overridden: wakes the event loop from another thread",
    "server.TcpWSGIServer.del_channel": "called: takes the listening socket out of the event loop",
    "task.ThreadedTaskDispatcher.add_task": "called: passes a request to waitress's threads",
    "task.ThreadedTaskDispatcher.shutdown": "called: ends waitress's threads",
    "channel.HTTPChannel": "base class of Channel",
    "channel.HTTPChannel.task_class": "set to a class that adds to the WSGI environment",
    "channel.HTTPChannel.error_task_class": "set to a class that answers with a problem document",
    "channel.HTTPChannel.parser_class": "overridden: makes a Request and marks those that begin in a drain",
    "channel.HTTPChannel.last_activity": "overridden: waitress stores wall-clock time in it",
    "channel.HTTPChannel.total_outbufs_len": "read: bytes of responses that the client hasn't read yet",
    "channel.HTTPChannel.will_close": "set: closes a connection that is too slow or idle",
    "channel.HTTPChannel.close_when_flushed": "set: closes a connection once its client had time to read",
    "channel.HTTPChannel.received": "overridden: waitress copies all bytes that follow for each request",
    "channel.HTTPChannel.handle_read": "overridden: limits the time of a turn, drops what is not wanted",
    "channel.HTTPChannel.recv": "overridden: reads small pieces, except of bodies",
    "channel.HTTPChannel.handle_close": "overridden: gives the bytes of bodies back",
    "channel.HTTPChannel.request": "set: the request that is being received",
    "channel.HTTPChannel.sent_continue": "set: when a request is complete",
    "channel.HTTPChannel.service": "overridden: counts clients that left the queue",
    "channel.HTTPChannel.send_continue": "overridden: not for a request that is answered already",
    "channel.HTTPChannel.handle_write": "overridden: continues with a request that waited for a slow reader",
    "channel.HTTPChannel.write_soon": "overridden: the thread that answers sends the response itself",
    "channel.HTTPChannel.writable": "overridden: the loop doesn't disturb a thread that is sending",
    "channel.HTTPChannel.readable": "overridden: called in every turn of the loop, so it checks time-outs",
    "parser.HTTPRequestParser": "base class of Request",
    "parser.HTTPRequestParser.parse_header": "overridden: checks what waitress's patterns take long for",
    "parser.HTTPRequestParser.received": "overridden: counts the bytes of bodies",
    "parser.HTTPRequestParser.close": "overridden: gives them back",
    "parser.HTTPRequestParser.body_rcv": "set: our receiver of chunks replaces waitress's",
    "parser.HTTPRequestParser.header_plus": "set: not kept once it is parsed",
    "parser.HTTPRequestParser.completed": "set: a request whose body is not wanted",
    "parser.HTTPRequestParser.expect_continue": "set: the same",
    "parser.HTTPRequestParser.error": "set: why a request is answered without the app",
    "parser.HTTPRequestParser.headers_finished": "read: which of two time-outs applies",
    "parser.HTTPRequestParser.get_body_stream": "called: reads a small body, which may have a URL",
    "parser.HTTPRequestParser.body_bytes_received": "read: size of the body, for the log",
    "receiver.FixedStreamReceiver": "read: `remain`, the bytes that are still to come",
    "receiver.ChunkedReceiver": "replaced: it takes quadratic time",
    "task.WSGITask": "base class of AppTask",
    "task.WSGITask.get_environment": "overridden: adds what the app must know of the request",
    "task.WSGITask.build_response_header": "overridden: decides whether the connection is closed",
    "task.WSGITask.close_on_finish": "read: whether the response closes the connection",
    "task.WSGITask.set_close_on_finish": "overridden: waitress closes for want of a Content-Length",
    "task.WSGITask.has_body": "read: a 204 or 304 needs no Content-Length",
    "task.WSGITask.write": "overridden: sends header and body in one packet",
    "task.ErrorTask": "base class of ProblemTask",
    "task.ErrorTask.execute": "overridden: answers with a problem document",
}
"""Names below `waitress` that this package overrides or calls, and most of those that it reads."""
