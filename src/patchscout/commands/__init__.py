"""The commands behind the command line, a module each: `run(arguments)` returns the exit code."""
