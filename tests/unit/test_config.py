"""Settings come in layers, remember where each entry came from, and name the culprit when one is bad."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samples import TINY

from sglperf.config import load_settings
from sglperf.config_folder import ConfigFolder, choose_profile, config_folder, read_yaml
from sglperf.configurations import server_configs
from sglperf.errors import ConfigError
from sglperf.models import load_model
from sglperf.plan import Ask, check_ask
from sglperf.settings import Settings, parse_list, parse_tp_sets
from sglperf.workload.shapes import Decode, Prefill, Repeat

SHIPPED = ConfigFolder(Path(__file__).parents[2] / "config")
PROFILE = """
device: cpu
model: tiny
attention_backends: [torch_native]
page_sizes: [16]
tp_sets: [[0]]
max_total_tokens: 4096
max_running_requests: 16
mem_fraction_static: 0.3
launches: 3
rounds: 6
"""


@pytest.fixture
def folder(tmp_path: Path) -> ConfigFolder:
    """A configuration with one profile, one model and the suite's own layer."""
    for kind in ("profiles", "models"):
        (tmp_path / kind).mkdir()
    (tmp_path / "suite.yaml").write_text("alpha: 0.1\nrounds: 5\n")
    (tmp_path / "profiles" / "cpu.yaml").write_text(PROFILE)
    (tmp_path / "models" / "tiny.yaml").write_text(
        "config: {vocab_size: 100, max_position_embeddings: 1024}\n"
    )
    return ConfigFolder(tmp_path)


def load(
    folder: ConfigFolder, environment: dict[str, str] | None = None, profile: str = "", **options: Any
) -> Settings:
    """Settings of the CPU profile, with ``profile`` written below it."""
    with (folder.path / "profiles" / "cpu.yaml").open("a") as file:
        file.write(profile)
    return load_settings(folder, options, environment or {}, ())


# Layers


def test_later_layers_win(folder):
    """Default, suite, profile, variable, option: each overrides those before it, and says who it is."""
    profile, suite = str(folder.path / "profiles" / "cpu.yaml"), str(folder.path / "suite.yaml")
    variables = {"SGLPERF_ROUNDS": "7", "SGLPERF_LAUNCHES": "8"}
    settings = load(folder, variables, launches="9", model=None)
    found = {name: (getattr(settings, name), settings.origin(name)) for name in
             ("seed", "alpha", "model", "rounds", "launches")}  # fmt: skip

    assert found == {
        "seed": (0, "built-in default"),
        "alpha": (0.1, suite),
        "model": ("tiny", profile),
        "rounds": (7, "SGLPERF_ROUNDS"),
        "launches": (9, "--launches"),
    }
    assert load(folder).origin("rounds") == profile


def test_a_profile_extends_another(folder):
    """It says only what is different, and what it says remembers its own file."""
    (folder.path / "profiles" / "quick.yaml").write_text("extends: cpu\nlaunches: 1\n")
    settings = load_settings(folder, {"profile": "quick"}, {}, [])
    assert (settings.profile, settings.launches, settings.rounds, settings.alpha) == ("quick", 1, 6, 0.1)
    assert settings.origin("launches").endswith("quick.yaml")
    assert settings.origin("rounds").endswith("cpu.yaml")


@pytest.mark.parametrize(
    ("base", "message"),
    [
        ("quick", "quick.yaml: extends itself, by way of"),
        ("nobody", "unknown profile 'nobody'"),
        ("[cpu]", r"quick.yaml: extends is ['cpu']: expected the name of a profile"),
    ],
)
def test_a_profile_that_extends_nothing_known(folder, base, message):
    """The file is named."""
    (folder.path / "profiles" / "quick.yaml").write_text(f"extends: {base}\n")
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_settings(folder, {"profile": "quick"}, {}, [])


@pytest.mark.parametrize(
    ("setting", "value", "option"),
    [
        ("attention_backends", ("a", "b"), "--attention-backend"),
        ("page_sizes", ("1", "16"), "--page-size"),
        ("tp_sets", ((0,), (0, 1)), "--tp-gpus"),
        ("baseline_dir", "b", "--baseline-dir"),
        ("strict", True, "--strict"),
    ],
)
def test_an_option_is_named_as_it_is_typed(folder, setting, value, option):
    """Provenance names the option on the command line, not the field behind it."""
    assert load(folder, **{setting: value}).origin(setting) == option


def test_lists_in_variables_read_like_their_options(folder):
    """A variable takes what its option takes; variables of others are not touched."""
    settings = load(
        folder,
        {
            "SGLPERF_ATTENTION_BACKENDS": "triton, flashinfer",
            "SGLPERF_PAGE_SIZES": "1,64",
            "SGLPERF_TP_SETS": "0;0,1",
            "SGLPERF_STRICT": "1",
            "PATH": "/bin",
            "LAUNCHES": "77",
        },
    )

    assert settings.attention_backends == ("triton", "flashinfer")
    assert settings.page_sizes == (1, 64)
    assert settings.tp_sets == ((0,), (0, 1))
    assert settings.strict is True
    assert settings.launches == 3


@pytest.mark.parametrize(
    ("accelerators", "options", "variables", "chosen"),
    [
        ((), {}, {}, "cpu"),
        ((), {"profile": "auto"}, {}, "cpu"),
        (("Tesla T4",), {"profile": "cpu"}, {}, "cpu"),
        (("Tesla T4",), {}, {"SGLPERF_PROFILE": "cpu"}, "cpu"),
        ((), {"profile": "cpu"}, {"SGLPERF_PROFILE": "nowhere"}, "cpu"),
    ],
)
def test_the_profile_is_given_or_chosen(folder, accelerators, options, variables, chosen):
    """Option before variable before the hardware found."""
    assert load_settings(folder, options, variables, accelerators).profile == chosen


def test_the_profile_remembers_who_chose_it(folder):
    """Given on the command line, or by the hardware."""
    assert load(folder, profile="").origin("profile") == "chosen by the hardware found"
    assert load_settings(folder, {"profile": "cpu"}, {}, ()).origin("profile") == "--profile"


def test_a_profile_from_the_environment_remembers_its_variable(folder):
    """A wrong profile in a CI's variable is to be found by its origin."""
    assert load(folder, {"SGLPERF_PROFILE": "cpu"}).origin("profile") == "SGLPERF_PROFILE"


# Bad values


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"launches": "many"},
            "--launches: launches is 'many': expected a number of server starts, or MIN..MAX",
        ),
        (
            {"launches": "3..4..5"},
            "--launches: launches is '3..4..5': expected a number of server starts, or MIN..MAX",
        ),
        ({"launches": "0"}, "--launches: launches is '0': expected at least 1"),
        (
            {"launches": "5..4"},
            "--launches: launches is '5..4': expected at least 1, and MIN no greater than MAX",
        ),
        (
            {"page_sizes": ("16", "x")},
            r"--page-size: page_sizes is \('16', 'x'\): Input should be a valid integer",
        ),
        ({"page_sizes": ()}, r"--page-size: page_sizes is \(\): .* at least 1 item"),
        ({"tp_sets": ()}, r"--tp-gpus: tp_sets is \(\): .* at least 1 item"),
        ({"tp_sets": ((0, 0),)}, r"--tp-gpus: .* names each GPU once, by its index from 0; got \[0, 0\]"),
        ({"tp_sets": ((-1,),)}, r"--tp-gpus: .* names each GPU once, by its index from 0; got \[-1\]"),
        ({"tp_sets": ((0,), ())}, r"--tp-gpus: .* names each GPU once, by its index from 0; got \[\]"),
        (
            {"baseline": "maybe"},
            "--baseline: baseline is 'maybe': Input should be 'compare', 'extend', 'record' or 'off'",
        ),
        ({"profile": "h10"}, "unknown profile 'h10': .*profiles has cpu"),
        ({"profile": "../suite"}, r"unknown profile '\.\./suite': .*profiles has cpu"),
        ({"profile": ""}, "unknown profile '': .*profiles has cpu"),
    ],
)
def test_a_bad_option_is_named(folder, options, message):
    """Option, value and what is wrong with it; for a name, those that there are."""
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_settings(folder, options, {}, ())


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("SGLPERF_ROUNDS", "-3", "rounds is '-3': Input should be greater than or equal to 1"),
        ("SGLPERF_ROUNDS", "", "rounds is '': Input should be a valid integer"),
        ("SGLPERF_ALPHA", "nan", "alpha is 'nan'"),
        ("SGLPERF_MIN_EFFECT", "1", "min_effect is '1': Input should be less than 1"),
        ("SGLPERF_START_TIMEOUT", "0", "start_timeout is '0': Input should be greater than 0"),
        ("SGLPERF_WORKLOADS", "x", "workloads is 'x': Input should be a valid dictionary"),
    ],
)
def test_a_bad_variable_is_named(folder, variable, value, message):
    """The variable is the culprit, and is named first."""
    with pytest.raises(ConfigError, match=f"^{variable}: {message}"):
        load(folder, {variable: value})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("launchs: 3", "launchs is 3: unknown setting"),
        ("device: tpu", "device is 'tpu': Input should be 'cpu' or 'cuda'"),
        ("mem_fraction_static: 1.5", "mem_fraction_static is 1.5: Input should be less than 1"),
        ("alpha: .nan", "alpha is nan"),
        ("tp_sets: [0]", r"tp_sets is \[0\]: Input should be a valid tuple"),
        ("tp_sets: [[0, 0]]", r"tp_sets is \[\[0, 0\]\]: a TP set names each GPU once"),
        ("model:", "model is None: Input should be a valid string"),
        ("workloads: {decode: {streams: many}}", "workloads is .*: Input should be a valid integer"),
        ("rounds: [", "not valid YAML"),
    ],
)
def test_a_bad_entry_of_a_profile_names_the_file(folder, line, message):
    """A misspelt name or a bad value is found by its file."""
    file = re.escape(str(folder.path / "profiles" / "cpu.yaml"))

    with pytest.raises(ConfigError, match=f"^{file}: {message}"):
        load(folder, profile=line + "\n")


def test_an_entry_that_nobody_gives_is_named(folder):
    """A profile that leaves out what has no default is refused."""
    (folder.path / "profiles" / "cpu.yaml").write_text(PROFILE.replace("model: tiny\n", ""))

    with pytest.raises(ConfigError, match="the profile: model is .*: Field required"):
        load(folder)


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("on: true", {}),  # YAML reads a name "on" as True
        ("7: x", {}),
        ("origins: {model: me}", {}),
        ("", {"SGLPERF_ORIGINS": "me"}),
        ("matches: '['", {}),
        ("matches: 100", {}),
    ],
)
def test_no_entry_ends_in_a_traceback(folder, line, variables):
    """Whatever a file or a variable holds, it is refused with its origin."""
    (folder.path / "profiles" / "cpu.yaml").write_text(PROFILE + line + "\n")

    with pytest.raises(ConfigError):
        load_settings(folder, {}, variables, ("A GPU",) if "matches" in line else ())


# Files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n- 2\n", "expected a mapping of names to values, found list"),
        (b"just text", "expected a mapping of names to values, found str"),
        (b"a: [1", "not valid YAML: .*line 1"),
        (b"a: b: c", "not valid YAML"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"a: !!python/object/apply:os.getpid []", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content, message):
    """The message is one line that names the file; nothing in it is executed."""
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)

    with pytest.raises(ConfigError, match=f"^{re.escape(str(file))}: {message}") as raised:
        read_yaml(file)
    assert "\n" not in str(raised.value)


def test_an_empty_file_says_nothing(tmp_path):
    """A file of comments is a layer without entries."""
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")

    assert read_yaml(tmp_path / "empty.yaml") == {}


def test_a_missing_file_is_named(tmp_path):
    """What is not there cannot be read."""
    with pytest.raises(ConfigError, match="gone.yaml: cannot be read"):
        read_yaml(tmp_path / "gone.yaml")


def test_the_suites_own_configuration_comes_first(folder, tmp_path):
    """A folder config/ with profiles under the root is used; without one, that of this repository."""
    root = tmp_path / "root"
    (root / "config").mkdir(parents=True)
    assert config_folder(root).path != root / "config"

    (root / "config" / "profiles").mkdir()
    assert config_folder(root).path == root / "config"


# Lists and TP sets


@pytest.mark.parametrize(
    ("text", "parts"), [("a,b", ("a", "b")), (" a , b,", ("a", "b")), ("", ()), (",", ())]
)
def test_lists(text, parts):
    """Names are separated by commas; blanks and empty parts do not count."""
    assert parse_list(text) == parts


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("0", ((0,),)),
        ("0;0,1;0,1,2,3", ((0,), (0, 1), (0, 1, 2, 3))),
        (" 2 , 3 ; 5,6 ;", ((2, 3), (5, 6))),
        ("", ()),
        (";", ()),
    ],
)
def test_tp_sets(text, sets):
    """Sets are separated by semicolons, GPUs by commas, and their order is kept."""
    assert parse_tp_sets(text) == sets


@pytest.mark.parametrize("text", ["a", "0,", "0,,1", "0 1", "0;1.5", "0-3", "[0]", "0:1", "²"])
def test_what_is_no_tp_set_is_refused(text):
    """The message shows what was given and an example of what to give."""
    with pytest.raises(
        ConfigError, match=rf"^--tp-gpus {re.escape(repr(text))}: .* '0;0,1;0,1,2,3', or auto$"
    ):
        parse_tp_sets(text)


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=8), min_size=1, max_size=5))
def test_tp_sets_are_read_back(sets):
    """Any list of sets written in this notation is read as it was meant."""
    assert parse_tp_sets(";".join(",".join(map(str, one)) for one in sets)) == tuple(map(tuple, sets))


# The profile of the hardware

A100 = "NVIDIA A100-SXM4-80GB"


@pytest.mark.parametrize(
    ("accelerators", "profile"),
    [
        ([], "cpu"),
        (["NVIDIA H100 80GB HBM3"], "h100"),
        (["NVIDIA H100 80GB HBM3"] * 8, "h100"),
        (["NVIDIA H100 PCIe"], "h100"),
        (["NVIDIA H100 NVL"] * 2, "h100"),
        (["NVIDIA H200"] * 8, "h200"),
        (["NVIDIA H200 NVL"], "h200"),
        ([A100] * 7, "a100x7"),
        ([A100] * 8, "a100x7"),
        (["NVIDIA A100 80GB PCIe"] * 7, "a100x7"),
        ([A100] * 6, "gpu"),  # the profile names seven
        ([A100], "gpu"),
        (["NVIDIA A100-SXM4-40GB"] * 7, "gpu"),
        (["NVIDIA H100 80GB HBM3", A100], "gpu"),  # no profile fits both
        (["NVIDIA H20"], "gpu"),
        (["NVIDIA GeForce RTX 4090"], "gpu"),
        (["NVIDIA L4"] * 4, "gpu"),
        (["Tesla T4"], "gpu"),
    ],
)
def test_the_shipped_profile_for_a_machine(accelerators, profile):
    """Every GPU must be the profile's product and as many as its TP sets name; else one of any kind is used."""
    assert choose_profile(SHIPPED, accelerators) == profile


def test_a_product_is_not_taken_for_another_whose_name_holds_its_name():
    """A Grace Hopper with 96 GB is not an H200."""
    assert choose_profile(SHIPPED, ["NVIDIA GH200 480GB"]) == "gpu"


@pytest.mark.parametrize("name", SHIPPED.names("profiles"))
def test_every_shipped_profile_can_be_run(name):
    """It is valid, its model is there, and all it sweeps fits its servers."""
    settings = load_settings(SHIPPED, {"profile": name}, {}, ())
    model = load_model(SHIPPED, settings.model)
    shapes = [
        *(Decode(streams=streams) for streams in settings.sweeps["streams"]),
        *(Prefill(prompt_tokens=tokens) for tokens in settings.sweeps["prompt_tokens"]),
        Repeat(),
    ]
    asks = [
        Ask("decode", config, shape.filled(settings.workloads[shape.kind]), "time_to_first_token")
        for config in server_configs(settings, model)
        for shape in shapes
    ]

    assert len(asks) >= 7
    for ask in asks:
        check_ask(ask)


# Models and servers


def test_a_shape_by_name(folder):
    """A model file gives name, vocabulary, context and the config to write out."""
    model = load_model(folder, "tiny")

    assert (model.name, model.vocab_size, model.context_length, model.dummy) == ("tiny", 100, 1024, True)
    assert model.config == {"vocab_size": 100, "max_position_embeddings": 1024}


@pytest.mark.parametrize("name", SHIPPED.names("models"))
def test_every_shipped_model_is_a_shape(name):
    """Each model file of the repository loads, with heads that divide its width."""
    model = load_model(SHIPPED, name)

    assert model.dummy != name.endswith("-random")
    assert model.config["hidden_size"] % model.config["num_attention_heads"] == 0
    assert model.config["num_attention_heads"] % model.config["num_key_value_heads"] == 0


def test_a_checkpoint_directory(folder, tmp_path):
    """A directory with a config.json is served from where it is, under its own name."""
    (tmp_path / "my-llama").mkdir()
    (tmp_path / "my-llama" / "config.json").write_text('{"vocab_size": 7, "max_position_embeddings": 9}')
    model = load_model(folder, str(tmp_path / "my-llama"))

    assert (model.name, model.vocab_size, model.context_length) == ("my-llama", 7, 9)
    assert model.path == str((tmp_path / "my-llama").resolve())
    assert not model.dummy


def test_a_checkpoint_whose_config_is_indented_by_tabs(folder, tmp_path):
    """Any JSON is a fine config.json."""
    (tmp_path / "config.json").write_text('{\n\t"vocab_size": 7,\n\t"max_position_embeddings": 9\n}')

    assert load_model(folder, str(tmp_path)).vocab_size == 7


def test_a_hub_name_is_left_to_the_server(folder):
    """A name with a slash that is no directory here goes to SGLang as it is."""
    model = load_model(folder, "meta-llama/Meta-Llama-3-8B")

    assert (model.path, model.name) == ("meta-llama/Meta-Llama-3-8B", "meta-llama--Meta-Llama-3-8B")


@pytest.mark.parametrize("name", ["nothing", "./nothing/here", "/nothing/here", "~/nothing/here", ".", ""])
def test_an_unknown_model_is_refused_with_those_that_there_are(folder, name, tmp_path, monkeypatch):
    """Neither a shape, nor a checkpoint, nor a hub name: all three are offered."""
    monkeypatch.chdir(tmp_path)

    with pytest.raises(
        ConfigError, match=rf"^unknown model '{re.escape(name)}': give one of tiny, .*config.json.* hub name$"
    ):
        load_model(folder, name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("description: none", "no 'config' mapping"),
        ("config: [1]", "no 'config' mapping"),
        ("config: {vocab_size: 100}", "needs whole numbers .*max_position_embeddings"),
        ("config: {vocab_size: big, max_position_embeddings: 9}", "needs whole numbers vocab_size"),
        ("config: {vocab_size: null, max_position_embeddings: 9}", "needs whole numbers vocab_size"),
    ],
)
def test_a_model_without_its_sizes_is_refused(folder, content, message):
    """The file and what it lacks are named."""
    (folder.path / "models" / "odd.yaml").write_text(content)

    with pytest.raises(ConfigError, match=rf"models/odd\.yaml: {message}"):
        load_model(folder, "odd")


def test_servers_are_every_combination(folder):
    """Attention backend × page size × TP set, in this order, with everything else pinned from the profile."""
    settings = load(
        folder,
        attention_backends=("a", "b"),
        page_sizes=("1", "16"),
        tp_sets=((0,), (0, 1)),
        server_arguments=("--x",),
        seed=4,
    )
    configs = server_configs(settings, TINY)

    assert [config.label for config in configs] == [
        f"{backend}-page{page}-tp{gpus}" for backend in "ab" for page in (1, 16) for gpus in ("0", "0.1")
    ]
    assert {(c.max_total_tokens, c.max_running_requests, c.random_seed, c.arguments) for c in configs} == {
        (4096, 16, 4, ("--x",))
    }
    assert {config.tp_size for config in configs} == {1, 2}


@pytest.mark.parametrize(
    ("given", "fewest", "most"), [("4", 4, 4), (4, 4, 4), ("3..8", 3, 8), ([3, 8], 3, 8), ("5..5", 5, 5)]
)
def test_launches_are_a_number_or_a_range(folder: ConfigFolder, given: object, fewest: int, most: int):
    """A range adds launches while a verdict is open; a number is a range of one."""
    settings = load(folder, launches=given)

    assert (settings.fewest_launches, settings.most_launches) == (fewest, most)


# Named servers


@pytest.fixture
def served(folder: ConfigFolder) -> ConfigFolder:
    """A suite and a profile that both say something of a server."""
    with (folder.path / "suite.yaml").open("a") as file:
        file.write("servers:\n  tight: {page_sizes: [1, 64], max_total_tokens: 4096, eviction_policy: lru}\n")
        file.write("sweeps: {nodes: [1000]}\n")
    with (folder.path / "profiles/cpu.yaml").open("a") as file:
        file.write("servers:\n  tight: {max_total_tokens: 2048}\n")
    return folder


def test_a_named_server_is_laid_over_the_profile(served):
    """Suite, then profile; what neither says stays as it is; options and the test's own changes win."""
    settings = load_settings(served, {"profile": "cpu"}, {}, [], "tight", {"eviction_policy": "lfu"})

    assert settings.page_sizes == (1, 64)
    assert settings.max_total_tokens == 2048
    assert settings.origin("max_total_tokens").endswith("cpu.yaml, servers.tight")
    assert (settings.eviction_policy, settings.origin("eviction_policy")) == ("lfu", "the test's own mark")
    assert load_settings(served, {"profile": "cpu", "page_sizes": (16,)}, {}, [], "tight").page_sizes == (16,)
    assert load_settings(served, {"profile": "cpu"}, {}, []).eviction_policy is None


def test_an_unknown_server_is_refused_with_those_that_there_are(served):
    """A mark that names no server is told which there are."""
    with pytest.raises(
        ConfigError,
        match="no settings for a server 'wide' in .*suite.yaml or .*cpu.yaml: under servers is tight",
    ):
        load_settings(served, {"profile": "cpu"}, {}, [], "wide")


def test_sweeps_are_laid_over_one_another_by_name(served):
    """A profile that has sweeps of its own keeps the suite's others."""
    assert load_settings(served, {"profile": "cpu"}, {}, []).sweeps["nodes"] == (1000,)


def test_chunks_are_whole_pages(served):
    """A chunk that is no multiple of a page is refused, with both."""
    with pytest.raises(
        ConfigError, match="chunked_prefill_tokens is 100: not a multiple of the page of 64 tokens"
    ):
        load_settings(served, {"profile": "cpu"}, {}, [], "tight", {"chunked_prefill_tokens": 100})


def test_every_shipped_server_can_be_configured():
    """Each of the suite's named servers goes with every profile."""
    shipped = ConfigFolder(Path(__file__).parents[2] / "config")
    for profile in shipped.names("profiles"):
        for name in read_yaml(shipped.path / "suite.yaml")["servers"]:
            settings = load_settings(shipped, {"profile": profile}, {}, [], name)
            configs = server_configs(settings, load_model(shipped, settings.model), name)
            assert all(f"-{name}" in config.label for config in configs)


def test_variants_are_compared_with_one_another(folder):
    """Each is a server of its own with its further arguments; what is compared differs in nothing else."""
    changes = {
        "side_by_side": True,
        "variants": {"serial": ["--disable-overlap-schedule"], "overlapped": []},
        "server_arguments": ["--x"],
        "attention_backends": ["torch_native", "flex_attention"],
    }
    settings = load_settings(folder, {"profile": "cpu", **changes}, {}, ())
    configs = server_configs(settings, load_model(folder, settings.model), "overlap")

    assert [(one.member, one.arguments) for one in configs[:2]] == [
        ("serial", ("--x", "--disable-overlap-schedule")),
        ("overlapped", ("--x",)),
    ]
    assert len({one.label for one in configs}) == 4
    assert len({one.group for one in configs}) == 2
    assert {one.attention_backend for one in configs if one.group == configs[0].group} == {"torch_native"}


def test_backends_are_compared_page_by_page(folder):
    """Servers that differ in more than their backend are compared with none."""
    changes = {"side_by_side": True, "attention_backends": ["a", "b"], "page_sizes": [1, 16]}
    settings = load_settings(folder, {"profile": "cpu", **changes}, {}, ())
    configs = server_configs(settings, load_model(folder, settings.model), "backends")

    assert {(one.page_size, one.group) for one in configs} == {
        (1, "backends-page1-tp0"),
        (16, "backends-page16-tp0"),
    }
    alone = server_configs(
        settings.model_copy(update={"side_by_side": False}), load_model(folder, settings.model)
    )
    assert {one.group for one in alone} == {one.label for one in alone}


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (None, "sqlite:////runs/history.sqlite"),
        ("", "sqlite:////runs/history.sqlite"),
        ("off", None),
        (False, None),  # as YAML reads off
        ("/data/all.sqlite", "sqlite:////data/all.sqlite"),
        ("postgresql://me@host/runs", "postgresql://me@host/runs"),
    ],
)
def test_the_history_is_a_file_a_server_or_off(folder, given, url):
    """Beside the runs unless something else is said."""
    changes = {"history": given, "results_dir": "/runs"}

    assert load_settings(folder, {"profile": "cpu"}, {}, (), changes=changes).history_url == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@host/runs", "postgresql://me:***@host/runs"),
        ("postgresql://me:se:c/ret@host/runs", "postgresql://me:***@host/runs"),
        (
            "postgresql://host/runs?user=me&password=secret&x=y",
            "postgresql://host/runs?user=me&password=***&x=y",
        ),
        ("postgresql://me@host/runs", "postgresql://me@host/runs"),
        ("results/a:b@c.sqlite", "results/a:b@c.sqlite"),
    ],
)
def test_a_password_is_used_and_not_kept(folder, url, shown):
    """The server gets it; what a run writes down is masked."""
    settings = load_settings(folder, {"profile": "cpu", "history": url}, {}, ())

    assert settings.model_dump(mode="json")["history"] == shown
    assert settings.history == url


def test_a_password_in_an_address_that_is_refused_is_not_repeated(folder):
    with pytest.raises(
        ConfigError, match=r"SGLPERF_HISTORY: history is 'mysql://me:\*\*\*@host/runs'"
    ) as raised:
        load_settings(folder, {"profile": "cpu"}, {"SGLPERF_HISTORY": "mysql://me:secret@host/runs"}, ())

    assert "secret" not in str(raised.value)
