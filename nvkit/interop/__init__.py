"""Bridges to what people used before nvkit: the CM script's language, and NVIDIA's own code."""
