"""What the commands that train leave out of what libraries say."""

import warnings

import pytest

from adabc_lightning.commands import quiet


def test_many_runs_of_one_process_are_quietened_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # and put back
    with warnings.catch_warnings():
        for _ in range(2000):
            quiet.quieten()
    foreign = warnings.formatwarning("odd", UserWarning, "/elsewhere/module.py", 3)
    assert foreign.startswith("/elsewhere/module.py:3: UserWarning: odd")
    own = warnings.formatwarning("mind\nthis", UserWarning, str(quiet.PACKAGE / "any.py"), 3)
    assert own == "warning: mind this\n"
