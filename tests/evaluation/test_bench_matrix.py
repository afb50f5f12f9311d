from __future__ import annotations

import numpy as np
import pytest

from evaluation import bench_matrix
from gigagan.errors import UserError


@pytest.mark.filterwarnings("ignore:The `disp` argument")
def test_both_steps_are_compared_at_equal_value(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--images", "200", "--width", "16", "--rounds", "2"])
    bench_matrix.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 7
    values = {line.split()[-1] for line in lines[1:] if " ours " in line or " clean-fid " in line}
    assert np.ptp([float(value) for value in values]) < 1e-6 * float(min(values))
    for name, goal in bench_matrix.GOALS.items():
        (ratio,) = (line for line in lines if line.startswith(name) and " ratio " in line)
        assert f"wanted {goal:g}:" in ratio


def test_features_repeat_and_differ_by_seed() -> None:
    features = bench_matrix.draw(50, 8, 0)
    assert features.dtype == np.float32
    assert (features == bench_matrix.draw(50, 8, 0)).all()
    assert (features != bench_matrix.draw(50, 8, 1)).any()


@pytest.mark.filterwarnings("ignore:The `disp` argument")
def test_unequal_values_are_no_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_matrix, "distance_of_moments", lambda *given: 1.0)
    with pytest.raises(UserError, match="one of them is wrong"):
        bench_matrix.compare(bench_matrix.draw(50, 8, 0), bench_matrix.draw(50, 8, 1), 1)
