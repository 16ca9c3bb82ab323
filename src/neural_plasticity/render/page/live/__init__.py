"""The live page: a server that follows the records of runs, which other processes write, and only ever reads them.

`serving` starts it, `app` routes requests, `guard` lets them in, `follower` reads each run once for all who watch.
"""
