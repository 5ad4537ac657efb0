"""The command line. It speaks with the service over HTTP alone; nothing of the service imports it."""
