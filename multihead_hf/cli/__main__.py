"""Entry point of `python -m multihead_hf.cli`."""

from . import main

main()
