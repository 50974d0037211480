"""The networks; no config, files or devices in them."""
