"""The command line as its users meet it: what it prints and writes, and how it fails."""

import logging
import os
import re
import runpy
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from types import ModuleType

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import COMMANDS, ROOT, assert_page, numbers
from joblib import parallel_config
from numpy.testing import assert_allclose

import machine_unlearning as mu

SCRIPT = str(ROOT / "machine_unlearning.py")
DEMO = [
    "concrete_demonstration.png",
    "decision_boundaries.png",
    "patient_level_view.png",
    "performance_metrics.png",
]
QUICK = ["--dpi", "20", "--patients", "60", "--forget", "10", "--epochs", "20"]
TINY = "--patients 40 --forget 8 --epochs 2 --hidden 2"  # a study in no time
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals, pipes and devices")


@contextmanager
def started(*command, cwd, env=None):
    """A child process, with Ctrl-C as it is for a user, whatever the parent made of it."""
    environment = dict(os.environ, PYTHONDONTWRITEBYTECODE="1")
    environment.pop("PYTHONUNBUFFERED", None)
    environment.update(env or {})
    process = subprocess.Popen(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        text=True,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # its workers, too
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run(*command, cwd, env=None):
    """(status, stdout, stderr) of a command."""
    with started(*command, cwd=cwd, env=env) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def is_one_line(err):
    return err.count("\n") == 1 and err.startswith("machine_unlearning.py: error: ")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The test runs in an empty folder, which is also its home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def replace_demo(monkeypatch, function):
    """Let the demo be another function, of settings."""
    changed = mu.EXPERIMENTS["demo"]._replace(function=function)
    monkeypatch.setitem(mu.EXPERIMENTS, "demo", changed)


# ---- Pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", COMMANDS)
def test_the_page_then_the_files(ran, experiment):
    output, files, _ = ran(experiment)
    page, _, lines = output.partition("\nwrote ")
    assert_page(page.replace("mine.csv", ""))
    written = [os.path.basename(line) for line in lines.splitlines()]
    assert sorted(written) == [*files, "table.csv"]
    if experiment == "demo":
        assert files == DEMO


@pytest.mark.parametrize("experiment", COMMANDS)
def test_a_page_ends_with_all_that_a_citation_needs(ran, experiment):
    page = ran(experiment)[0].partition("\nwrote ")[0]
    end = " ".join(page.split())[-500:]
    versions = [mu.__version__, sys.version.split()[0], np.__version__, mu.sklearn.__version__]
    for version in versions:
        assert version in end
    assert f"{experiment}, seed 42" in end
    given = dict(re.findall(r"--([\w-]+) (\S+)", COMMANDS[experiment]))
    said = end.partition("seed 42")[2].replace("_", "-")
    assert set(re.findall(r", ([\w-]+) ", said)) == set(given)  # no default, no folder, no dpi
    for name, value in given.items():
        assert value == "TABLE" or f"{name} {value}" in said


def test_the_demos_page_shows_its_table(ran):
    page, _, table = ran("demo")
    table = table.set_index("method")
    for name, row in table.iterrows():
        [line] = [line for line in page.splitlines() if re.match(rf"{name} +\d", line)]
        shown = numbers(line[len(name) :])
        accuracies = 100 * row[["test_accuracy", "retain_accuracy", "forget_accuracy"]]
        assert_allclose(shown[:4], [1000 * row.seconds, *accuracies], atol=0.051)
        assert shown[4:6] == [row.predictions_changed, row.newly_wrong]
        assert_allclose(shown[6], 100 * row.gap_to_retrained, rtol=0.05)
        assert_allclose(shown[7], row.attack_auc, atol=6e-4)


ODD = [
    "--multiplier 1e6",
    "sweep --learning-rate 0 --epochs 20",
    "sequential --epochs 3 --patients 40 --forget 8",
]


@pytest.mark.parametrize("command", ODD)
def test_odd_settings_have_a_page_even_if_numpy_raises(tmp_path, capsys, command):
    command = [*command.split(), "--dpi", "20", "--output", str(tmp_path)]
    with np.errstate(all="raise"), parallel_config("sequential"):
        assert mu.main(command) == 0
    page = capsys.readouterr().out.partition("\nwrote ")[0]
    assert_page(page)


# ---- Settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", mu.EXPERIMENTS)
def test_settings_for_an_experiment_are_those_of_the_command_line(experiment):
    assert mu.settings_for(experiment) == mu.parse([experiment])[1]
    given = mu.settings_for(experiment, seed=7, learning_rate=0.5)
    assert given == mu.parse([experiment, "--seed", "7", "--learning-rate", "0.5"])[1]
    for name, value in mu.EXPERIMENTS[experiment].defaults.items():
        assert getattr(mu.settings_for(experiment), name) == value


def test_defaults_of_experiments():  # written out here on purpose
    found = {}
    for experiment in mu.EXPERIMENTS:
        settings = mu.settings_for(experiment)
        found[experiment] = settings.patients, settings.forget, settings.learning_rate
    assert found["demo"] == (500, 80, 0.1)
    assert found["basic"] == (1000, 160, 0.1)
    assert found["clinical"] == (569, 91, 0.1)
    assert found["own"] == (500, None, 0.1)
    assert found["study"] == found["sequential"] == (500, 80, 1.0)


WRONG_SETTINGS = [  # experiment, what is given, words of the message
    ("stdy", {}, ["'stdy'", "study"]),
    ("demo", {"multipler": 0.5}, ["'multipler'", "multiplier"]),
    ("demo", {"trials": 9}, ["--trials has no effect on demo"]),
    ("demo", {"data": "x.csv"}, ["--data has no effect on demo"]),
    ("own", {"patients": 300}, ["--patients has no effect on own"]),
    ("demo", {"seed": None}, ["--seed None"]),
]


@pytest.mark.parametrize("case", WRONG_SETTINGS)
def test_wrong_settings_in_a_notebook(case):
    experiment, given, words = case
    with pytest.raises(mu.SettingsError) as caught:
        mu.settings_for(experiment, **given)
    for word in words:
        assert word in str(caught.value)


def test_help_shows_what_each_experiment_has_of_its_own(capsys):
    assert mu.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert_page(text)
    words = " ".join(text.split())
    for name, experiment in mu.EXPERIMENTS.items():
        assert f" {name} {experiment.meaning}" in words
    assert "(default 80, basic 160, clinical 91, own a fifth)" in words
    assert "(default 500, basic 1000)" in words
    assert "(default 0.7, study 0.07)" in words  # sequential has none
    for option in mu.fields(mu.Settings):
        assert mu.flag_of(option.name) in words


USAGE = [  # command, words of the last line
    ("--forget 0", ["--forget 0", "1 to"]),
    ("--forget 399", ["--forget 399", "398", "two classes must remain"]),
    ("--patients 60", ["--forget 80", "46"]),
    ("--seed x", ["--seed", "'x'"]),
    ("--epochs 1.5", ["--epochs", "'1.5'"]),
    ("--multiplier nan", ["--multiplier nan"]),
    ("--format gif", ["--format gif", "svg"]),
    ("--output", ["--output"]),
    ("study --patients 39", ["--patients 39", "40"]),
    ("study --patients 40 --forget 13", ["--forget 13", "12"]),
    ("study --forget 7", ["--forget 7", "8", "380"]),
    ("study --trials 7", ["--trials 7", "8"]),
    ("sequential --forget 381", ["--forget 381", "380"]),
    ("seed 3", ["'seed'"]),
    ("stdy", ["'stdy'", "study"]),
    ("demo basic", ["basic"]),
    ("--multipler=0.5", ["--multipler=0.5", "did you mean --multiplier?"]),
    ("--see", ["--see", "did you mean --seed?"]),
    ("study --multipler -0.5", ["--multipler", "--help"]),
    ("--hospital", ["--hospital: unknown, see --help"]),
    ("clinical --patients 300", ["--patients has no effect on clinical"]),
    ("sweep --trials 9", ["--trials has no effect on sweep"]),
    ("study --label x", ["--label has no effect on study"]),
    ("sequential --multiplier 1", ["--multiplier has no effect on sequential"]),
]


@pytest.mark.parametrize(("command", "words"), USAGE)
def test_usage_errors_name_what_is_wrong(here, capsys, command, words):
    with parallel_config("sequential"):
        assert mu.main(command.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    last_line = err.splitlines()[-1]
    assert last_line.startswith("machine_unlearning.py: error: ")
    for word in words:
        assert word in last_line
    assert not list(here.rglob("*.png"))


# ---- Files --------------------------------------------------------------------------------------

NO_ROOM = [  # flags, words of the message
    ("--output taken", "taken: not a folder"),
    ("--output taken/deep", "taken"),
    ("--csv taken/x.csv", "taken: not a folder"),
    ("--csv .", "a folder"),
]


@pytest.mark.parametrize(("flags", "words"), NO_ROOM)
def test_a_place_that_cannot_be_is_refused_before_the_work(here, capsys, monkeypatch, flags, words):
    replace_demo(monkeypatch, lambda settings: pytest.fail("it has worked in vain"))
    (here / "taken").write_text("mine")
    assert mu.main(flags.split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert is_one_line(err)
    assert words in err
    assert (here / "taken").read_text() == "mine"


def test_folders_are_made_before_the_work(here, monkeypatch):
    def no_work(settings):
        assert (here / "one" / "deep").is_dir()
        assert (here / "tables").is_dir()
        return mu.Output("page", pd.DataFrame({"a": [1]}), {})

    replace_demo(monkeypatch, no_work)
    assert mu.main(["--output=~/one/deep", "--csv", "~/tables/1.csv"]) == 0
    assert (here / "tables" / "1.csv").read_text().splitlines() == [",a", "0,1"]


@pytest.mark.parametrize("name", ["png", "svg", "pdf"])
def test_a_figure_in_each_format_twice_the_same(here, monkeypatch, patients, name):
    def draw(settings):
        figures = {"maps.png": mu.boundaries_figure(patients)}  # it shows no time
        return mu.Output("page", pd.DataFrame(), figures)

    replace_demo(monkeypatch, draw)
    for folder in ("one", "two"):
        assert mu.main(["--format", name, "--dpi", "20", "--output", folder]) == 0
        assert os.listdir(folder) == [f"maps.{name}"]
    first = (here / "one" / f"maps.{name}").read_bytes()
    second = (here / "two" / f"maps.{name}").read_bytes()
    assert first == second
    beginnings = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert first.startswith(beginnings[name])
    assert b"atplotlib v" not in first  # no version, so the same with the next one


class Film:
    """What an experiment may return instead of a figure."""

    def __init__(self, works):
        self.works = works

    def save(self, path):
        assert str(path).endswith(".gif")  # the format follows from it
        assert "film.gif" in path.name
        assert path.name != "film.gif"
        path.write_bytes(b"half a film")
        if not self.works:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize("works", [True, False])
def test_a_film_is_written_beside_and_stays_a_gif(here, capsys, monkeypatch, works):
    output = mu.Output("page", pd.DataFrame(), {"film.gif": Film(works)})
    replace_demo(monkeypatch, lambda settings: output)
    (here / "output").mkdir()
    film = here / "output" / "film.gif"
    film.write_bytes(b"old")
    status = mu.main(["--format", "svg"])
    out, err = capsys.readouterr()
    assert os.listdir("output") == ["film.gif"]
    if works:
        assert status == 0
        assert film.read_bytes() == b"half a film"
    else:
        assert status == 1
        assert out.startswith("page\n")  # what was found is printed
        assert is_one_line(err)
        assert os.path.join("output", "film.gif") + ": No space" in err
        assert film.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_files_whole(here, capsys):
    """No file may grow beyond 4 KB: the first figure fails half-written."""
    resource = pytest.importorskip("resource")  # POSIX
    for name in DEMO:
        (here / name).write_bytes(b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        status = mu.main([*QUICK, "--dpi", "60", "--output", "."])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    out, err = capsys.readouterr()
    assert status == 1
    last_line = err.splitlines(keepends=True)[-1]  # above it, progress
    assert is_one_line(last_line)
    assert "performance_metrics.png: " in last_line
    assert "Gradient Ascent" in out  # what was found is printed
    found = {path.name: path.read_bytes() for path in here.iterdir()}
    assert found == dict.fromkeys(DEMO, b"old")


# ---- Nothing is left behind ---------------------------------------------------------------------


def test_a_quiet_run_leaves_nothing_but_its_files(here, capfd):
    look = dict(mpl.rcParams)
    figures = plt.get_fignums()
    random_state = str(np.random.get_state())  # noqa: NPY002
    command = "clinical --dpi 25 --quiet --epochs 1 --output=~/one/deep --csv ~/1.csv"
    assert mu.main(command.split()) == 0
    assert dict(mpl.rcParams) == look
    assert plt.get_fignums() == figures
    assert str(np.random.get_state()) == random_state  # noqa: NPY002
    assert capfd.readouterr() == ("", "")

    table, *pictures = sorted(here.rglob("*.*"))
    assert table == here / "1.csv"
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.parent == here / "one" / "deep"
        assert plt.imread(picture).shape[1] == 250


@pytest.mark.parametrize("flags", [[], ["--quiet"]])
def test_progress_is_on_stderr_unless_quiet_and_afterwards_nobody_listens(
    here, capsys, monkeypatch, flags
):
    def long_work(settings):
        mu.log.info("Full Retrain: 6.1 s")
        mu.log.warning("all too few")
        return mu.Output("page", pd.DataFrame(), {})

    replace_demo(monkeypatch, long_work)
    assert mu.main(flags) == 0
    expected = "all too few\n" if flags else "Full Retrain: 6.1 s\nall too few\n"
    assert capsys.readouterr().err == expected
    assert mu.main(["--seed", "x"]) == 2
    assert mu.log.handlers == []
    assert mu.log.level == logging.NOTSET


@posix
@pytest.mark.slow
def test_an_import_has_no_effect_and_a_thread_of_a_script_without_a_main_guard_can_run_it(tmp_path):
    """Under runpy, as %run of a notebook does: the workers cannot import the script's functions."""
    (tmp_path / "caller.py").write_text(f"""
import runpy, sys, threading
import numpy as np, matplotlib as mpl, seaborn, matplotlib.pyplot as plt
state, look = str(np.random.get_state()), dict(mpl.rcParams)
sys.path.insert(0, {str(ROOT)!r})
import machine_unlearning
assert str(np.random.get_state()) == state and dict(mpl.rcParams) == look

def work():
    try:
        runpy.run_path({SCRIPT!r}, run_name="__main__")
    except SystemExit as stop:
        print(stop.code, plt.get_fignums())

sys.argv = ["machine_unlearning.py", "study", *"{TINY} --trials 8 --dpi 20 --quiet".split()]
thread = threading.Thread(target=work)
thread.start()
thread.join()
""")
    done = run(sys.executable, "caller.py", cwd=tmp_path, env={"MPLBACKEND": "svg"})
    assert done == (0, "0 []\n", "")
    assert (tmp_path / "output" / "method_study.png").is_file()


# ---- The world outside --------------------------------------------------------------------------


@posix
@pytest.mark.slow
def test_ctrl_c_ends_a_study_in_one_line_and_all_its_workers(tmp_path):
    command = [sys.executable, SCRIPT, "study", "--trials", "1000", *TINY.split()]
    with started(*command, cwd=tmp_path) as process:
        seen = ""
        while "Done" not in seen:  # so the workers are at work
            seen = process.stderr.readline()
            assert seen or process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, err = process.communicate(timeout=60)  # until no worker is left that could write
    # Python itself reports an interrupt that falls into the clean-up of an object; it goes on
    err = re.sub(r"Exception ignored in:? .*?^KeyboardInterrupt:? *$", "", err, flags=re.M | re.S)
    lines = [line for line in err.splitlines() if line.strip() and "[Parallel" not in line]
    assert process.returncode == 130
    assert out == ""
    assert lines == ["machine_unlearning.py: error: interrupted"]
    assert not list(tmp_path.rglob("*.p*"))


HOSTILE = """
savefig.bbox: tight
savefig.transparent: True
savefig.facecolor: red
savefig.format: pdf
figure.constrained_layout.use: True
path.sketch: 1, 100, 2
font.size: 30
axes.grid: True
"""


@posix
def test_nobodys_environment_changes_a_picture(tmp_path):
    """Neither a notebook's backend, nor a matplotlibrc, nor a missing home, nor a poor console."""
    assert mu.main([*QUICK, "--quiet", "--output", str(tmp_path / "plain")]) == 0
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    environment = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
        "HOME": "/proc/missing",
        "PYTHONIOENCODING": "ascii:strict",
    }
    folder = tmp_path / "caf\u00e9"
    command = [sys.executable, SCRIPT, *QUICK, "--output", folder]
    status, out, err = run(*command, cwd=tmp_path, env=environment)
    assert status == 0, err
    assert "Traceback" not in err
    assert "wrote " in out
    for name in DEMO[:3]:  # the fourth draws times
        plain = plt.imread(tmp_path / "plain" / name)
        other = plt.imread(folder / name)
        np.testing.assert_array_equal(plain, other)


# ---- Pipes and redirections: files instead of a console -----------------------------------------


@pytest.fixture
def short_demo(monkeypatch):
    """A demo that only has a film to write."""
    output = mu.Output("page", pd.DataFrame({"a": [1]}), {"film.gif": Film(works=True)})
    replace_demo(monkeypatch, lambda settings: output)


@posix
@pytest.mark.parametrize("flags", [[], ["--help"]])
def test_nobody_reads_to_the_end(here, short_demo, monkeypatch, capsys, flags):
    """As in | head: what is left in the buffer when Python ends must go nowhere."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert mu.main(flags) == 0
    assert capsys.readouterr().err == ""
    assert (here / "output" / "film.gif").is_file() == (flags == [])


FULL_DISK = "/dev/full"  # a device that is always full


@pytest.mark.skipif(not os.path.exists(FULL_DISK), reason="Linux has it")
@pytest.mark.parametrize(("flag", "status"), [("--dpi=20", 1), ("--help", 1), ("--quiet", 0)])
def test_a_page_that_finds_no_room_is_not_lost_in_silence(
    here, short_demo, monkeypatch, capsys, flag, status
):
    with open(FULL_DISK, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert mu.main([flag]) == status
    err = capsys.readouterr().err
    if status:
        assert is_one_line(err)
        assert "the page: No space left on device" in err
    else:  # there was nothing to print
        assert err == ""
        assert os.listdir("output") == ["film.gif"]


def test_the_table_may_follow_the_page(here, short_demo, monkeypatch, capsys):
    """Opened once more, /dev/stdout would overwrite the page in a file, or be replaced by one."""
    monkeypatch.setattr(mu, "write_table", lambda table, path: pytest.fail(f"{path} opened"))
    assert mu.main(["--csv", "/dev/stdout"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "page"
    assert lines[-4:-2] == [",a", "0,1"]
    assert lines[-1] == "wrote /dev/stdout"


@posix
def test_a_real_pipe(tmp_path):
    line = f"set -e -o pipefail; '{sys.executable}' '{SCRIPT}' --help | true"
    assert run("bash", "-c", line, cwd=tmp_path) == (0, "", "")


def test_no_output_at_all(monkeypatch, capsys):
    """As in >&-, and in an IDE whose output has less to offer."""
    monkeypatch.setenv("MPLBACKEND", "agg")  # the script removes it
    monkeypatch.setattr(sys, "argv", [SCRIPT, "--version"])
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(SCRIPT, run_name="__main__")
    assert stop.value.code == 0
    assert mu.__version__ in capsys.readouterr().err


# ---- A part of the script -----------------------------------------------------------------------


def test_the_demo_alone_is_what_is_left_without_parts_2_to_4_and_three_lines(here, monkeypatch):
    """As the script's docstring says, for a teacher."""
    banner = "# " + 97 * "="
    parts = (ROOT / "machine_unlearning.py").read_text(encoding="utf-8").split(f"\n{banner}\n")
    first, part_1, part_5 = parts[0], parts[1:3], parts[9:11]
    assert [part_1[0], part_5[0]] == ["# Part 1: The demo", "# Part 5: Running it"]
    text = f"\n{banner}\n".join([first, *part_1, *part_5])
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("EXPERIMENTS.update(")]
    assert len(lines) - len(kept) == 3

    demo_alone = ModuleType("demo_alone")
    monkeypatch.setitem(sys.modules, "demo_alone", demo_alone)
    exec("".join(kept), demo_alone.__dict__)
    assert demo_alone.main(QUICK) == 0
    assert sorted(os.listdir("output")) == DEMO
