"""Files that a command writes: whole or not at all, on disk when it says so, never over others'."""
