"""The rows of benchmarks, as their authors publish them: local files, or files fetched from the hub."""
