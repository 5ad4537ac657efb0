"""One script per claim; each prints a table with a yardstick from the same run."""
