"""The engine: continuous batching over a paged key-value cache.

`engine.Engine` is the synchronous core and `thread.EngineThread` runs it beside an event loop. Requests, outputs and
the thread import no torch, so that the API can use them without it; that is why nothing is gathered here.
"""
