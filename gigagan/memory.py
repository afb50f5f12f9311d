"""What is done where a device's memory does not hold a batch."""

from __future__ import annotations

import torch


def is_out_of_memory(e: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    # SANA's pipelines swallow that error of their decoder, and then miss the picture.
    swallowed = isinstance(e, UnboundLocalError) and "'image'" in str(e)
    return isinstance(e, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(e) or swallowed
