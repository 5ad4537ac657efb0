"""Sluice: accepts ingestions at once and feeds them to an upstream in strict order, at an exact pace."""

import gc

# Python looks for cycles after every 700 new objects. Imports make tens of thousands, all to stay.
gc.set_threshold(10_000)
