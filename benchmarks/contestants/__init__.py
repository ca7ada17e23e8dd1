"""What runs inside other programs' environments: each file drives one of them, by its own public entry point."""
