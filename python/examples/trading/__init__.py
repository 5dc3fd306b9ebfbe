"""Trading engine: follows a market over websockets, keeps candles, trades on them.

An example host of memguard. `python -m trading` starts a feed server that plays
recorded prices, and the engine; see --help.

    history.py     recorded prices of shares, as bars and as trades
    feed.py        a websocket server that plays them and fills orders
    messages.py    what feed and engine say to each other, and what may be wrong with it
    links.py       the engine's connections: a managed pool
    store.py       all the engine remembers: rings, windows, caches, reused tables
    indicators.py  pandas indicators
    engine.py      trades -> candles -> indicators -> orders -> positions
    session.py     follows the feed, comes back when it was gone, sends the orders
    host.py        the command line, memguard's manager, reports

The prices are the daily bars of five shares that bokeh_sampledata (PyPI) ships, in the
public domain. What was a day then is five minutes here, so a day of the engine takes
288 of them. websockets (PyPI) is both server and client.
"""
