"""Feature definitions: Python files whose Feast objects are loaded as Feast itself does, and applied."""

from __future__ import annotations

import importlib
import linecache
import shutil
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from feast import Entity, FeatureService, FeatureStore, FeatureView
from feast.data_source import DataSource, RequestSource
from feast.on_demand_feature_view import OnDemandFeatureView

from sluice.errors import BadInput, SluiceError, one_line

_KINDS = (Entity, DataSource, FeatureView, OnDemandFeatureView, FeatureService)


def load_definitions(repo: Path) -> list[Any]:
    """
    Feast objects of the Python files in ``repo``, imported as top-level modules as Feast itself does.

    The folder stands on the module path meanwhile: definitions import each other by the bare names of their files, as
    under ``feast apply``, and could not if each were loaded under a name of its own.

    Raises:
        BadInput: a file cannot be loaded, or there is no feature service among them.
    """
    names = sorted(path.stem for path in repo.glob("*.py"))
    shadowed = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    linecache.checkcache()
    importlib.invalidate_caches()
    sys.path.insert(0, str(repo.resolve()))
    no_bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        values = [value for name in names for value in vars(importlib.import_module(name)).values()]
    except SluiceError:
        raise
    except Exception as error:
        rule = f"cannot be loaded ({type(error).__name__}: {one_line(error, 200)})"
        raise BadInput(f"definitions in {repo}", rule, "mend them") from error
    finally:
        sys.path.remove(str(repo.resolve()))
        sys.dont_write_bytecode = no_bytecode
        for name in names:
            sys.modules.pop(name, None)
        sys.modules.update(shadowed)
    objects = {id(value): value for value in values if isinstance(value, _KINDS)}
    if not any(isinstance(value, FeatureService) for value in objects.values()):
        raise BadInput(str(repo), "defines no feature service", "add one to the definitions")
    return list(objects.values())


def staged_definitions(files: Mapping[str, Path], store: Path) -> list[Any]:
    """The objects that the definitions make in a folder beside ``store/repo``, from where they see the same tables."""
    store.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=".repo-", dir=store))
    try:
        for name, path in files.items():
            shutil.copyfile(path, staged / name)
        return load_definitions(staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def named_fields(objects: list[Any]) -> list[tuple[str, str]]:
    """(field, owner) of every feature and request input."""
    owners = [value for value in objects if isinstance(value, FeatureView | OnDemandFeatureView)]
    fields = [(field.name, f"view {owner.name}") for owner in owners for field in owner.features]
    requests = [value for value in objects if isinstance(value, RequestSource)]
    return fields + [(field.name, f"source {owner.name}") for owner in requests for field in owner.schema]


def apply_objects(feast: FeatureStore, objects: list[Any], repo: Path) -> None:
    """
    Feast's ``apply``, which also tries each on-demand view with values of its own.

    Raises:
        BadInput: Feast refuses one of the objects, or a transform fails.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            feast.apply(objects)
    except SluiceError:
        raise
    except Exception as error:
        rule = f"cannot be applied ({type(error).__name__}: {one_line(error, 300)})"
        raise BadInput(
            f"definitions in {repo}", rule, "mend them; Feast tries transforms with values of its own"
        ) from error
