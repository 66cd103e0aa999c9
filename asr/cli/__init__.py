"""The ``asr`` command: one file per subcommand, heavy imports inside the handlers."""
