"""Plugin for pytest: ``--treealign`` makes each model of `treealign.lock` a test, which fails when its tree changed."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

_LOCK = "treealign.lock"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the option and the setting."""
    group = parser.getgroup("treealign")
    group.addoption("--treealign", action="store_true", help="check the models that treealign.lock holds")
    parser.addini("treealign_lock", f"the lock, from the root folder ({_LOCK})", default=_LOCK)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add a test for each model of the lock."""
    if not config.getoption("--treealign"):
        return
    from treealign.changes.locking import read_lock
    from treealign.errors import TreealignError

    lock = config.rootpath / str(config.getini("treealign_lock"))
    try:
        names = list(read_lock(lock))
    except TreealignError as error:
        raise pytest.UsageError(str(error)) from error
    items += [LockedModel.from_parent(session, name=f"{lock.name}::{name}", lock=lock, model=name) for name in names]


class LockedModel(pytest.Item):
    """One model of a lock."""

    def __init__(self, *, lock: Path, model: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.lock, self.model = lock, model

    def runtest(self) -> None:
        """Build the model and compare; what it names is found from the root folder."""
        from treealign.cli.lock_verb import check_lines, checks
        from treealign.errors import TreealignError

        with chdir(self.config.rootpath):
            try:
                (found,) = checks(self.lock, [self.model])
            except TreealignError as error:
                pytest.fail(str(error), pytrace=False)
            if not found.ok:
                pytest.fail("\n".join(check_lines(found, self.lock)), pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where it stands, for reports."""
        return self.lock, None, self.name
