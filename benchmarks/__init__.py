"""The load harness: `python -m benchmarks --help`. Every figure is a ratio within one run on one machine."""
