"""The commands, and the wiring that joins `stream`, `pipeline` and `sinks`."""
