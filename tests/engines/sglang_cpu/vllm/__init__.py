"""Not vLLM: the one operation that SGLang takes from there on a machine without its own kernels."""
