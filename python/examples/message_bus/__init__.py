"""Message bus: a Python and a Node process exchange messages, both ways at once.

An example host of memguard. `python -m message_bus` starts a broker, the Node side
(node/examples/message_bus) and the Python side; see --help.

    messages.py  what the sides say to each other, and what may be wrong with it
    stream.py    messages over Redis streams, kept until they are acknowledged
    roads.py     ways to the other side: redis, redis-channels, nats
    side.py      one side: publishes, answers, sends again what was not answered
    server.py    a broker of its own on the loopback interface
    host.py      the command line, memguard's manager, the Node process, reports

Each side numbers its messages, and answers each that it takes with the checksum of
what has arrived. What a broker promises differs, the numbers tell what came of it:

    redis           An outbox (memguard.transports.RedisOutbox), from there a stream
                    with a consumer group. What Redis has acknowledged is handed on
                    at least once, also after Redis was killed, if it syncs its file.
    redis-channels  memguard.transports.RedisTransport, and
    nats            NatsTransport (core NATS): to who listens at that moment, at most
                    once. A side keeps each message, in the rental it was published
                    from, until it is answered, and sends it again when that takes
                    long.

In both cases a message that arrives a second time is counted, and dropped.
"""
