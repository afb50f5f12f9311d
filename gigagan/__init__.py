"""GigaGAN (Kang et al., "Scaling up GANs for Text-to-Image Synthesis", arXiv 2303.05511): model, data and training.

In Python, ``from gigagan import GigaGAN`` gives a trained run to draw with (gigagan/api.py); a mistake
is a ``gigagan.GigaGANError``.
"""

import importlib

from gigagan.errors import GigaGANError as GigaGANError
from gigagan.errors import one_line_for_ctrl_c

__version__ = "0.1.0"

one_line_for_ctrl_c()


def __getattr__(name: str) -> object:
    # Only where it is asked for: it takes torch, and seconds.
    if name == "GigaGAN":
        return importlib.import_module("gigagan.api").GigaGAN
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
