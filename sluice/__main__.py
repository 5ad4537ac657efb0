"""The command line: `python -m sluice`."""

from sluice.cli.app import run

if __name__ == "__main__":
    run()
