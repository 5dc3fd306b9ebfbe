"""From files, the environment and mappings to settings.

Precedence, lowest first: defaults, profile, file, environment, the mapping the
program gives. Every rule about a key or a value is the core's; its table names
the keys, their units and ranges.
"""

from __future__ import annotations

import os

from memguard._core import (
    AbsentError,
    ConfigTypeError,
    InvalidError,
    Settings,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Path = str | os.PathLike[str]
    Value = bool | int | float

PREFIX = "MEMGUARD_"
SUFFIXES = ".yaml, .yml, .json, .toml"


def load_config(path: Path) -> dict[str, Any]:
    """Reads a configuration file: YAML, JSON or TOML by its suffix.

    YAML needs PyYAML (`pip install memguard[yaml]`), which AbsentError says.
    Raises OSError if the file cannot be read, InvalidError if it is not of its
    format or its suffix is unknown, ConfigTypeError if it holds no mapping.
    """
    name = os.fspath(path)
    suffix = os.path.splitext(name)[1].lower()
    parse = {
        ".yaml": _parse_yaml,
        ".yml": _parse_yaml,
        ".json": _parse_json,
        ".toml": _parse_toml,
    }.get(suffix)
    if parse is None:
        raise InvalidError(f"{name} is no configuration file, allowed: {SUFFIXES}")
    with open(name, "rb") as file:
        content = file.read()
    loaded = parse(name, content)
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigTypeError(f"{name} holds {_kind(loaded)}, allowed: a mapping")
    return loaded


def _parse_yaml(name: str, content: bytes) -> object:
    try:
        import yaml
    except ImportError:
        raise AbsentError(
            f"{name} needs PyYAML to be read: pip install memguard[yaml]"
        ) from None
    try:
        return yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeError) as error:
        raise InvalidError(f"{name} is not valid YAML: {error}") from error


def _parse_json(name: str, content: bytes) -> object:
    import json

    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{name} is not valid JSON: {error}") from error


def _parse_toml(name: str, content: bytes) -> object:
    import tomllib

    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{name} is not valid TOML: {error}") from error


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def resolve(
    config: Mapping[str, Any] | None = None,
    *,
    profile: str | None = None,
    file: Path | None = None,
    environment: bool | Mapping[str, str] = True,
) -> Settings:
    """Checked settings from all sources.

    `environment`: True reads os.environ, False nothing; a mapping stands in for
    it. MEMGUARD_PROFILE and MEMGUARD_CONFIG (a path) count where `profile` and
    `file` are not given.
    """
    variables: Mapping[str, str] = {}
    if environment is True:
        variables = os.environ
    elif environment is not False:
        variables = environment
    settings = Settings(profile or variables.get(PREFIX + "PROFILE") or "default")
    file = file or variables.get(PREFIX + "CONFIG") or None
    if file is not None:
        apply(settings, load_config(file))
    settings.set_environment(
        [f"{name}={variables[name]}" for name in variables if name.startswith(PREFIX)]
    )
    if config is not None:
        apply(settings, config)
    settings.check()
    return settings


def apply(settings: Settings, config: Mapping[str, Any], section: str = "") -> None:
    """Sets every key of a mapping, nested by section or flat.

    A program wants all or nothing: apply to a copy, check(), then use it.
    """
    if not _is_mapping(config):
        raise ConfigTypeError(f"config is {_kind(config)}, allowed: a mapping")
    for key, value in config.items():
        if not isinstance(key, str):
            raise ConfigTypeError(f"configuration key {key!r}, allowed: a str")
        path = f"{section}.{key}" if section else key
        if not section and _is_mapping(value) and _may_descend(key, value):
            apply(settings, value, key)
        else:
            settings.set(path, value)


def _is_mapping(value: object) -> bool:
    return hasattr(value, "items") and hasattr(value, "keys")


def _may_descend(key: str, value: Mapping[str, Any]) -> bool:
    """An unknown section is entered too: the error about its first key names the
    nearest known path."""
    if Settings.is_section(key):
        return True
    return len(value) > 0 and not Settings.is_key(key)


def nested(settings: Settings) -> dict[str, dict[str, Value]]:
    """Settings as sections of names; fit to be given to update_config().

    Durations are in seconds.
    """
    sections: dict[str, dict[str, Value]] = {}
    for section, name, kind, value in settings.rows():
        sections.setdefault(section, {})[name] = _host_value(kind, value)
    return sections


def _host_value(kind: str, value: float) -> Value:
    if kind == "bool":
        return bool(value)
    if kind == "duration":
        return value / 1000
    return int(value) if value.is_integer() and kind != "ratio" else value
