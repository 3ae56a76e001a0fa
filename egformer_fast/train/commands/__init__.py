"""One module a command of `egformer-fast`: add_arguments(parser) and run(arguments) -> exit status."""
