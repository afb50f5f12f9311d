"""Progress: a bar on a terminal, lines in a log."""

from __future__ import annotations

import io

from gigagan.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def clock(monkeypatch, *seconds):
    times = iter(seconds)
    monkeypatch.setattr("gigagan.progress.time.monotonic", lambda: next(times))


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    clock(monkeypatch, 0, 1, 2, 20, 100)
    log = io.StringIO()
    progress = Progress(1000, start=100, stream=log)
    progress.update(200, loss=1.23456, phase="G")
    progress.update(300)
    progress.update(500)
    progress.update(1000)
    assert log.getvalue().splitlines() == [
        "200/1,000 img  100 img/s  0:08 left  loss 1.235  phase G",
        "500/1,000 img  20.0 img/s  0:25 left",
        "1,000/1,000 img  9.0 img/s  1:40",
    ]


def test_a_terminal_gets_one_bar_that_redraws_itself(monkeypatch):
    clock(monkeypatch, 0, 1, 2)
    terminal = Terminal()
    progress = Progress(4, "step", stream=terminal)
    progress.update(2)
    progress.update(4)
    first, second = terminal.getvalue().removeprefix("\r").split("\r")
    assert first == "[############............] 2/4 step  2.0 step/s  0:01 left\x1b[K"
    assert second == "[########################] 4/4 step  2.0 step/s  0:02\x1b[K\n"


def test_nothing_to_do_is_no_division_by_zero():
    log = io.StringIO()
    Progress(0, stream=log).update(0)
    assert log.getvalue().startswith("0/0 img")


def test_durations():
    assert [duration(s) for s in (0, 75, 3675)] == ["0:00", "1:15", "1:01:15"]
