"""Sluice: accepts ingestions at once and feeds them to an upstream in strict order, at an exact pace."""
