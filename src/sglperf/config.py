"""Settings: YAML, environment variables and options become one frozen value that knows where each entry came from.

Later layers win: built-in default < ``config/suite.yaml`` < profile < ``SGLPERF_*`` variable < option.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from sglperf.core.claim import Claim
from sglperf.core.gpu_sets import GpuSet
from sglperf.core.server_config import Model, ServerConfig
from sglperf.core.validation import first_problem
from sglperf.errors import ConfigError

TpSet = tuple[int, ...]
AUTO = "auto"
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Everything that decides what a run does. Frozen; ``origins`` tells who set each entry.

    Attributes are named like their option, with underscores; units are tokens, seconds and shares.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str
    description: str = ""
    device: Literal["cpu", "cuda"]
    matches: str = ""

    target: str | None = None
    base: str | None = None
    head: str | None = None
    sglang_repo: Path | None = None
    target_mode: Literal["auto", "overlay", "venv"] = "auto"

    model: str
    attention_backends: tuple[str, ...] = Field(min_length=1)
    page_sizes: tuple[Positive, ...] = Field(min_length=1)
    tp_sets: tuple[TpSet, ...]  # empty: those that the host has, see sglperf.tensor_parallel
    fewest_gpus: Positive = 1
    max_total_tokens: Positive
    max_running_requests: Positive
    mem_fraction_static: Annotated[float, Field(gt=0, lt=1)]
    prefix_cache: bool = True
    eviction_policy: str | None = None
    chunked_prefill_tokens: Positive | None = None
    side_by_side: bool = False
    compare_tp_sets: bool = False
    variants: dict[str, tuple[str, ...]] = {}
    server_arguments: tuple[str, ...] = ()
    server_environment: dict[str, str] = {}

    launches: int | tuple[int, int]
    rounds: Positive
    warmup_rounds: Positive = 1
    round_retries: Annotated[int, Field(ge=0)] = 2
    seed: int = 0
    start_timeout: Annotated[float, Field(gt=0)] = 600
    round_timeout: Annotated[float, Field(gt=0)] = 300
    kernel_seconds: Annotated[float, Field(gt=0)] = 0.1
    time_limit: Annotated[float, Field(gt=0)] | None = None

    servers: dict[str, dict[str, Any]] = {}
    workloads: dict[str, dict[str, int]] = {}
    sweeps: dict[str, tuple[int, ...]] = {}

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    min_effect: Annotated[float, Field(gt=0, lt=1)] = 0.03
    client_lag_share: Annotated[float, Field(gt=0)] = 0.5
    foreign_cpu_share: Annotated[float, Field(gt=0)] = 0.25

    ncu: str | None = None
    nsys: bool = False
    why: Literal["auto", "always", "off"] = "auto"
    baseline: Literal["compare", "extend", "record", "off"] = "compare"
    baseline_dir: Path = Path("baselines")
    results_dir: Path = Path("results")
    html_report: bool = True
    history: str | None = None
    tag: Annotated[str, Field(max_length=40)] = ""
    strict: bool = False

    origins: dict[str, str] = {}

    @field_validator("tp_sets", mode="before")
    @classmethod
    def _given_or_found(cls, sets: object) -> object:
        if sets in ((), []):
            raise ValueError(f"expected at least 1 item, or {AUTO}")
        return () if sets == AUTO else sets

    @field_validator("tp_sets")
    @classmethod
    def _each_gpu_once(cls, sets: tuple[TpSet, ...]) -> tuple[TpSet, ...]:
        for one in sets:
            if not one or len(set(one)) != len(one) or min(one) < 0:
                raise ValueError(f"a TP set names each GPU once, by its index from 0; got {list(one)}")
        return sets

    @field_validator("history", mode="before")
    @classmethod
    def _database(cls, given: object) -> object:
        given = (
            "off" if given is False else given or None
        )  # YAML reads off as false; an empty variable says nothing
        scheme = given.partition("://")[0] if isinstance(given, str) and "://" in given else "sqlite"
        if scheme not in ("sqlite", "postgresql", "postgresql+psycopg"):
            raise ValueError("give a file, sqlite:///FILE, postgresql://USER@HOST/NAME, or off")
        return given

    @field_serializer("history")
    def _without_password(self, history: str | None) -> str | None:
        return None if history is None else without_password(history)

    @field_validator("compare_tp_sets")
    @classmethod
    def _in_one_respect(cls, compare: bool, info: ValidationInfo) -> bool:
        if compare and info.data.get("side_by_side"):
            raise ValueError("servers are compared in one respect: give this or side_by_side")
        return compare

    @field_validator("launches", mode="before")
    @classmethod
    def _number_or_range(cls, given: object) -> object:
        return parse_launches(given)

    @field_validator("chunked_prefill_tokens")
    @classmethod
    def _whole_pages(cls, chunk: int | None, info: ValidationInfo) -> int | None:
        for page in info.data.get("page_sizes", ()):
            if chunk is not None and chunk % page:
                raise ValueError(
                    f"not a multiple of the page of {page} tokens: a chunk ends at a page's end, so give sizes that divide"
                )
        return chunk

    @property
    def fewest_launches(self) -> int:
        """Server starts of each configuration, whatever the first ones show."""
        return self.launches if isinstance(self.launches, int) else self.launches[0]

    @property
    def most_launches(self) -> int:
        """Server starts of each configuration, however open its verdicts are."""
        return self.launches if isinstance(self.launches, int) else self.launches[1]

    @property
    def history_url(self) -> str | None:
        """Of the database that runs are added to; None for none."""
        if self.history == "off":
            return None
        place = str(self.results_dir / "history.sqlite") if self.history is None else self.history
        return place if "://" in place else f"sqlite:///{place}"

    def origin(self, name: str) -> str:
        """Where the entry's value came from, in words a person can act on."""
        return self.origins.get(name, "built-in default")


def without_password(url: str) -> str:
    """``postgresql://me:secret@host/name`` → ``postgresql://me:***@host/name``; a query's password likewise."""
    hidden = re.sub(r"(?<=://)([^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"(?i)(password=)[^&]*", r"\1***", hidden)


@dataclass(frozen=True)
class ConfigFolder:
    """The folder with ``suite.yaml``, ``profiles/``, ``models/`` and ``claims/``."""

    path: Path

    def names(self, kind: str) -> list[str]:
        """Names available under ``profiles`` or ``models``."""
        return sorted(file.stem for file in (self.path / kind).glob("*.yaml"))

    def read(self, kind: str, name: str) -> dict[str, Any]:
        """One named document.

        Raises:
            ConfigError: no such document, or not a YAML mapping.
        """
        file = self.path / kind / f"{name}.yaml"
        if not re.fullmatch(r"[\w.-]+", name) or not file.is_file():
            known = ", ".join(self.names(kind)) or "none"
            raise ConfigError(f"unknown {kind.rstrip('s')} {name!r}: {self.path / kind} has {known}")
        return read_yaml(file)


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping from a file; any other content is a ConfigError that names the place."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{file}: expected a mapping of names to values, found {type(document).__name__}")
    odd = next((name for name in document if not isinstance(name, str)), None)
    if odd is not None:
        raise ConfigError(
            f"{file}: {odd!r} is no name: put it in quotes (YAML reads on, off, yes and no as true or false)"
        )
    return document


def config_folder(root: Path) -> ConfigFolder:
    """The suite's own ``config/`` under ``root``, else the one that came with the package."""
    packaged = Path(__file__).parent / "_config"
    for folder in (root / "config", packaged, Path(__file__).parents[2] / "config"):
        if (folder / "profiles").is_dir():
            return ConfigFolder(folder)
    raise ConfigError(f"no config/profiles under {root}, and none came with the package: reinstall sglperf")


def load_settings(
    folder: ConfigFolder,
    options: Mapping[str, Any],
    environment: Mapping[str, str],
    accelerators: Sequence[str],
    server: str | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Settings:
    """Merge all layers.

    Args:
        folder: where profiles live.
        options: command-line values by setting name; None means not given.
        environment: variables; ``SGLPERF_LAUNCHES`` sets ``launches``.
        accelerators: product names of the GPUs present, for ``--profile auto``.
        server: an entry of the profile's ``servers``, whose values come before the profile's own.
        changes: what a test insists on, whatever else is given.

    Raises:
        ConfigError: an unknown profile or name, or a bad value, with its origin.
    """
    given = {name: (value, _option_name(name)) for name, value in options.items() if value is not None}
    variables = _variables(environment)
    profile, origin = given.get("profile") or variables.get("profile") or ("auto", "")
    if profile == "auto":
        profile, origin = choose_profile(folder, accelerators), "chosen by the hardware found"
    common = folder.path / "suite.yaml"
    documents = {
        str(common): read_yaml(common) if common.is_file() else {},
        **_profile_documents(folder, profile),
    }
    layers: list[dict[str, tuple[Any, str]]] = [
        *(_with_origin(document, file) for file, document in documents.items()),
        *([] if server is None else _server_layers(documents, server)),
        variables,
        given,
        _with_origin(changes or {}, "the test's own mark"),
        {"profile": (profile, origin)},
    ]
    merged: dict[str, tuple[Any, str]] = {}
    for layer in layers:
        merged |= {name: _over(merged.get(name), entry) for name, entry in layer.items()}
    return _validated(merged)


def _profile_documents(folder: ConfigFolder, name: str) -> dict[str, dict[str, Any]]:
    """File → what it says: the profile, after those that it extends."""
    documents: dict[str, dict[str, Any]] = {}
    base: Any = name
    while base is not None:
        file = str(folder.path / "profiles" / f"{base}.yaml")
        if file in documents:
            raise ConfigError(f"{file}: extends itself, by way of {' and '.join(documents)}")
        documents[file] = folder.read("profiles", base)
        base = documents[file].pop("extends", None)
        if not isinstance(base, str | None):
            raise ConfigError(f"{file}: extends is {base!r}: expected the name of a profile")
    return dict(reversed(documents.items()))


def _over(below: tuple[Any, str] | None, entry: tuple[Any, str]) -> tuple[Any, str]:
    """An entry laid over the one below; where both are mappings, such as sweeps by name, key by key."""
    value, origin = entry
    if below is not None and isinstance(below[0], dict) and isinstance(value, dict):
        return below[0] | value, origin
    return entry


def _server_layers(documents: Mapping[str, Mapping[str, Any]], name: str) -> list[dict[str, tuple[Any, str]]]:
    """What the suite and the profile say of one of the named servers."""
    known: dict[str, dict[str, Any]] = {}
    layers = []
    for file, document in documents.items():
        servers = document.get("servers") or {}
        if not isinstance(servers, dict) or not all(isinstance(one, dict) for one in servers.values()):
            raise ConfigError(f"{file}: servers is {servers!r}: expected names, each with settings")
        known |= servers
        layers.append(_with_origin(servers.get(name, {}), f"{file}, servers.{name}"))
    if name not in known:
        names = ", ".join(known) or "none"
        raise ConfigError(
            f"no settings for a server {name!r} in {' or '.join(documents)}: under servers is {names}"
        )
    return layers


def choose_profile(folder: ConfigFolder, accelerators: Sequence[str]) -> str:
    """The profile for this machine: the one whose ``matches`` finds the GPU's product name, ``gpu``, or ``cpu``."""
    if not accelerators:
        return "cpu"
    fitting = []
    for name in folder.names("profiles"):
        document = folder.read("profiles", name)
        if not _fits(document.get("matches"), accelerators, folder.path / "profiles" / f"{name}.yaml"):
            continue
        sets = document.get("tp_sets", ())
        wanted = {gpu for one in ([] if sets == AUTO else sets) for gpu in one}
        if wanted <= set(range(len(accelerators))):
            fitting.append((len(wanted), name))
    return max(fitting)[1] if fitting else "gpu"


def _fits(pattern: object, accelerators: Sequence[str], origin: Path) -> bool:
    """Whether a profile's ``matches`` finds every product name, as a word of its own: H200 is not in GH200."""
    if not pattern:
        return False
    if not isinstance(pattern, str):
        raise ConfigError(f"{origin}: matches is {pattern!r}: expected a regular expression in quotes")
    try:
        return all(re.search(rf"\b(?:{pattern})\b", product) for product in accelerators)
    except re.error as error:
        raise ConfigError(f"{origin}: matches is {pattern!r}: not a regular expression ({error})") from None


def load_claims(folder: ConfigFolder) -> dict[str, Claim]:
    """Every statement of ``claims/``, by its file's name.

    Raises:
        ConfigError: one of them is not understood.
    """
    claims = {}
    for name in folder.names("claims"):
        try:
            claims[name] = Claim.model_validate(folder.read("claims", name))
        except ValidationError as error:
            raise ConfigError(f"{folder.path / 'claims' / name}.yaml: {first_problem(error)}") from None
    return claims


def load_model(folder: ConfigFolder, name: str) -> Model:
    """A shape from ``models/``, a local checkpoint directory, or a hub name with a slash.

    Raises:
        ConfigError: none of these.
    """
    if name in folder.names("models"):
        document = folder.read("models", name)
        shape = _shape(name, document.get("config"), folder.path / "models" / f"{name}.yaml")
        return replace(shape, written=_written(folder, name, document))
    directory = Path(name).expanduser()
    if (directory / "config.json").is_file():
        shape = _shape(directory.name, _read_json(directory / "config.json"), directory / "config.json")
        return Model(directory.name, shape.vocab_size, shape.context_length, path=str(directory.resolve()))
    if directory.exists() or "/" not in name or name.startswith((".", "/", "~")):
        known = ", ".join(folder.names("models"))
        raise ConfigError(
            f"unknown model {name!r}: give one of {known}, a directory with a config.json, or a hub name"
        )
    # The hub's own config is the server's to read; ids below this bound exist in every current vocabulary.
    return Model(name.replace("/", "--"), vocab_size=32000, context_length=4096, path=name)


def server_configs(
    settings: Settings, model: Model, variant: str = "", sets: Sequence[GpuSet] | None = None
) -> tuple[ServerConfig, ...]:
    """Every point of attention backend × page size × TP set, each in every variant.

    Args:
        sets: TP sets; None for those that the settings name, under no names of their own.
    """
    sets = [GpuSet("", gpus) for gpus in settings.tp_sets] if sets is None else sets
    return tuple(
        ServerConfig(
            model=model,
            device=settings.device,
            attention_backend=backend,
            page_size=page_size,
            tp_set=one.gpus,
            max_total_tokens=settings.max_total_tokens,
            max_running_requests=settings.max_running_requests,
            mem_fraction_static=settings.mem_fraction_static,
            random_seed=settings.seed,
            prefix_cache=settings.prefix_cache,
            eviction_policy=settings.eviction_policy,
            chunked_prefill_tokens=settings.chunked_prefill_tokens,
            variant="-".join(filter(None, (variant, member))),
            comparison=_comparison(settings, variant, backend, page_size, one.gpus, member),
            member=one.name if settings.compare_tp_sets else member,
            arguments=(*settings.server_arguments, *arguments),
            environment=settings.server_environment,
        )
        for backend in settings.attention_backends
        for page_size in settings.page_sizes
        for one in sets
        for member, arguments in (settings.variants or {"": ()}).items()
    )


def _comparison(
    settings: Settings, variant: str, backend: str, page_size: int, tp_set: TpSet, member: str
) -> str:
    """Names what servers of one comparison have in common: all but the TP set, or the variant, or the backend."""
    name = variant or "servers"
    if settings.compare_tp_sets:
        return "-".join(filter(None, (name, member, backend, f"page{page_size}")))
    if not settings.side_by_side:
        return ""
    common = f"{name}-{backend}" if settings.variants else name
    return f"{common}-page{page_size}-tp{'.'.join(map(str, tp_set))}"


def parse_launches(given: object) -> int | tuple[int, int]:
    """``4`` → 4; ``"4..8"`` → (4, 8).

    Raises:
        ValueError: neither, or numbers that make no sense.
    """
    words: Sequence[Any] = [given]
    if isinstance(given, str):
        words = given.split("..")
    elif isinstance(given, list | tuple):
        words = given
    try:
        numbers = [int(word) for word in words]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (1, 2) or any(isinstance(word, float | bool) for word in words):
        raise ValueError("expected a number of server starts, or MIN..MAX")
    if numbers[0] < 1 or numbers[0] > numbers[-1]:
        raise ValueError("expected at least 1, and MIN no greater than MAX")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def parse_list(text: str) -> tuple[str, ...]:
    """``a,b`` → ``("a", "b")``."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_tp_sets(text: str) -> tuple[TpSet, ...] | str:
    """``0;0,1;0,1,2,3`` → ``((0,), (0, 1), (0, 1, 2, 3))``; ``auto`` stays what it is.

    Raises:
        ConfigError: something other than GPU indices.
    """
    if text.strip() == AUTO:
        return AUTO
    try:
        return tuple(tuple(int(gpu) for gpu in one.split(",")) for one in text.split(";") if one.strip())
    except ValueError:
        raise ConfigError(
            f"--tp-gpus {text!r}: give GPU indices, sets separated by ';', as in '0;0,1;0,1,2,3', or {AUTO}"
        ) from None


def _written(folder: ConfigFolder, name: str, document: Mapping[str, Any]) -> bool:
    weights = document.get("weights", "dummy")
    if weights not in ("dummy", "random"):
        raise ConfigError(
            f"{folder.path / 'models' / name}.yaml: weights is {weights!r}: give dummy or random"
        )
    return bool(weights == "random")


def _read_json(file: Path) -> object:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: not readable as JSON ({error})") from error


def _shape(name: str, config: object, origin: Path) -> Model:
    if not isinstance(config, dict):
        raise ConfigError(f"{origin}: no 'config' mapping with the model's shape")
    try:
        return Model(name, int(config["vocab_size"]), int(config["max_position_embeddings"]), config=config)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{origin}: needs whole numbers vocab_size and max_position_embeddings ({error})"
        ) from None


def _with_origin(document: Mapping[str, Any], origin: str) -> dict[str, tuple[Any, str]]:
    return {name: (value, origin) for name, value in document.items()}


_LISTS = {"attention_backends": parse_list, "page_sizes": parse_list, "tp_sets": parse_tp_sets}


def _variables(environment: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for variable, text in environment.items():
        name = variable.removeprefix("SGLPERF_").lower()
        if variable == "SGLPERF_ORIGINS":
            raise ConfigError(f"{variable}: origins are found, not set: unset it")
        if variable.startswith("SGLPERF_") and name in Settings.model_fields:
            found[name] = (_LISTS[name](text) if name in _LISTS else text, variable)
    return found


_OPTION_NAMES = {
    "attention_backends": "--attention-backend",
    "page_sizes": "--page-size",
    "tp_sets": "--tp-gpus",
}


def _option_name(setting: str) -> str:
    return _OPTION_NAMES.get(setting, "--" + setting.replace("_", "-"))


def _validated(merged: Mapping[str, tuple[Any, str]]) -> Settings:
    if "origins" in merged:
        raise ConfigError(f"{merged['origins'][1]}: origins are found, not set: remove the entry")
    try:
        return Settings(
            **{name: value for name, (value, _) in merged.items()},
            origins={name: origin for name, (_, origin) in merged.items()},
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        origin = merged[name][1] if name in merged else "the profile"
        problem = (
            "unknown setting"
            if first["type"] == "extra_forbidden"
            else first["msg"].removeprefix("Value error, ")
        )
        value = merged[name][0] if name in merged else "nothing"
        value = without_password(value) if name == "history" and isinstance(value, str) else value
        raise ConfigError(f"{origin}: {name} is {value!r}: {problem}") from None


def environment_variables() -> Mapping[str, str]:
    """The process's own variables; the only place in this module that looks outside."""
    return os.environ
