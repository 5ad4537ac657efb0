"""What can be asked for: a function a command, by what it does."""
