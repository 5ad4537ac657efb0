"""Other job queues beside Sluice, doing the same work: see `__main__`."""
