"""The log of a run: one JSON line a tick in ``train.jsonl``, and TensorBoard where it is asked for."""

from __future__ import annotations

import json
from pathlib import Path

from gigagan.errors import UserError
from gigagan.files import read_jsonl, write_jsonl


class RunLog:
    """Appends figures by images seen. A resumed run first drops the lines that lie beyond its checkpoint."""

    def __init__(self, folder: Path, images: int, tensorboard: bool) -> None:
        self.path = folder / "train.jsonl"
        if self.path.exists():
            # A line without its end was cut short by a full disk.
            whole = self.path.read_text(encoding="utf-8").rpartition("\n")[0]
            rows = [json.loads(line) for line in whole.splitlines()]
            write_jsonl(self.path, [row for row in rows if row["images"] <= images])
        self.board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise UserError("--tensorboard: it is not installed; pip install tensorboard") from None
            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=images)

    def write(self, images: int, figures: dict[str, float]) -> None:
        with self.path.open("a", encoding="utf-8") as f:
            f.write(json.dumps({"images": images, **{k: round(v, 6) for k, v in figures.items()}}) + "\n")
        if self.board is not None:
            for name, value in figures.items():
                self.board.add_scalar(name, value, images)

    def seconds(self) -> float:
        """Training time so far, over all sittings."""
        rows = read_jsonl(self.path) if self.path.exists() else []
        return float(rows[-1]["seconds"]) if rows else 0.0
