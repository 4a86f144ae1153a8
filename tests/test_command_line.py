"""The command line as its users meet it: what it prints and writes, and how it fails."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import COMMANDS, ROOT, SMALL, assert_page, numbers
from joblib import parallel_config
from numpy.testing import assert_allclose as near

import machine_unlearning as mu

SCRIPT = str(ROOT / "machine_unlearning.py")
DEMO = ["concrete_demonstration.png", "decision_boundaries.png", "patient_level_view.png",
        "performance_metrics.png"]  # fmt: skip
QUICK = ["--dpi", "20", "--patients", "60", "--forget", "10", "--epochs", "20"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals, pipes and devices")


@contextmanager
def started(*command, cwd, env=()):
    """A child process, with Ctrl-C as it is for a user, whatever the parent made of it."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **dict(env)}
    environment.pop("PYTHONUNBUFFERED", None)
    process = subprocess.Popen(
        [*map(str, command)], cwd=cwd, env=environment, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # its workers, too
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run(*command, cwd, env=()):
    """(status, stdout, stderr) of a command."""
    with started(*command, cwd=cwd, env=env) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def one_line(text):
    return text.count("\n") == 1 and text.startswith("machine_unlearning.py: error: ")


@pytest.mark.parametrize("experiment", COMMANDS)
def test_the_page_then_the_files(ran, experiment):
    output, files, _ = ran(experiment)
    page, _, lines = output.partition("\nwrote ")
    written = [os.path.basename(line) for line in lines.splitlines()]
    assert sorted(written) == [*files, "table.csv"]
    assert experiment != "demo" or files == DEMO
    assert_page(page)
    how = " ".join(page.split())[-400:]  # at the end of it, for a citation
    for version in (mu.__version__, sys.version.split()[0], np.__version__, mu.sklearn.__version__):
        assert version in how
    for name, value in [(experiment, ""), *re.findall(r"--(\w+) (\d+)", COMMANDS[experiment])]:
        assert re.search(rf"\b{name}\W+{value}\b", how)


def printed(page, names):
    """{name: numbers} of the lines of a page that begin with a name and go on with numbers."""
    found = {}
    for line in page.splitlines():
        name = max((name for name in names if line.startswith(name)), key=len, default="")
        if name and re.fullmatch(r"[\d.e+%*()\s-]+", line[len(name) :]):
            found[name] = numbers(line[len(name) :])
    assert list(found) == list(names)
    return found.items()


def test_pages_show_their_tables(ran):
    table = ran("demo")[2].set_index("method")
    for name, shown in printed(ran("demo")[0], table.index):
        row = table.loc[name]
        accuracies = 100 * row[["test_accuracy", "retain_accuracy", "forget_accuracy"]]
        counts = row.predictions_changed, row.newly_wrong
        near(shown[:6], [1000 * row.seconds, *accuracies, *counts], atol=0.051)
        near(shown[6:], [row.gap_to_retrained, row.attack_auc], atol=6e-4)
    table = ran("sweep")[2].astype({"epochs": str}).set_index(["epochs", "multiplier"])
    for name, shown in printed(ran("sweep")[0], table.index.unique("epochs")):
        accuracies = table.loc[name, ["forget_accuracy", "test_accuracy"]]
        near(shown, 100 * np.ravel(accuracies), atol=0.51)
    summary = mu.summarise_ledger(ran("sequential")[2])
    for name, shown in printed(ran("sequential")[0], mu.STRATEGIES):
        columns = ["time", "largest_gap", "elsewhere"][: 2 + name.startswith("Newton")]
        expected = summary.xs(name, level="method")[columns]
        near(shown, np.ravel(expected), rtol=0.06, atol=0.006)


ODD = [
    "--epochs 0", "--forget 1", "--unlearn-epochs 0", "--multiplier 1e6", "sweep --learning-rate 0",
    f"study --multiplier 1e6 {SMALL} --epochs 5", "sequential --epochs 3 --patients 40 --forget 8",
]  # fmt: skip


@pytest.mark.parametrize("command", ODD)
def test_odd_settings_have_a_page_that_can_be_read(tmp_path, capsys, command):
    with parallel_config("sequential"):
        assert mu.main([*command.split(), "--dpi", "20", "--output", str(tmp_path)]) == 0
    page = capsys.readouterr().out.partition("\nwrote ")[0]
    assert_page(page)
    assert ("Approximate Unlearning diverged" in page) == command.startswith("study")


def test_a_quiet_run_leaves_nothing_but_its_files(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    before = dict(mpl.rcParams), plt.get_fignums(), str(np.random.get_state())  # noqa: NPY002
    command = "clinical --dpi 25 --quiet --epochs 1 --output=~/one/deep --csv ~/1.csv"
    assert mu.main(command.split()) == 0
    after = dict(mpl.rcParams), plt.get_fignums(), str(np.random.get_state())  # noqa: NPY002
    assert (after, capfd.readouterr()) == (before, ("", ""))
    table, *pictures = sorted(tmp_path.rglob("*.*"))
    assert table == tmp_path / "1.csv"
    found = [(each.parent, plt.imread(each).shape[1]) for each in pictures]
    assert found == [(tmp_path / "one" / "deep", 250)] * 2


def test_help_shows_what_each_experiment_has_of_its_own(capsys):
    assert mu.main(["--help"]) == 0
    assert_page(text := capsys.readouterr().out)
    for name, (*_, defaults, unused) in mu.EXPERIMENTS.items():
        for option, value in defaults.items():
            assert (f"{name} {value}" in " ".join(text.split())) == (option not in unused)


USAGE = """
--forget 0: --forget 0 1, --forget 401: --forget 401 400, --patients 60: --forget 80 48
--seed x: --seed x, --epochs 1.5: --epochs 1.5, --multiplier nan: --multiplier nan
--learning-rate -0.1: --learning-rate, --output: --output, study --patients 39: --patients 39 40
study --patients 40 --forget 13: --forget 13 12, study --trials 3: --trials 3 4
study --forget 7: --forget 7 8 380, seed 3: seed --seed
sequential --forget 381: --forget 381 8 380, --multipler=0.5: --multipler --multiplier
--see 1: --see --seed, stdy: study, cook me a meal: cook, demo basic: basic, -f x.json: notebook
study --multipler -0.5: --multipler --multiplier, clinical --patients 300: --patients clinical
sweep --trials 9: --trials sweep, sequential --multiplier 1: --multiplier
"""


@pytest.mark.parametrize("case", USAGE.strip().replace("\n", ", ").split(", "))
def test_usage_errors(tmp_path, capsys, monkeypatch, case):
    """Status 2, the flag at fault or the nearest right word is named, and nothing is written."""
    command, words = case.split(": ")
    monkeypatch.chdir(tmp_path)
    with parallel_config("sequential"):
        assert mu.main(command.split()) == 2
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert (out, "invalid choice" in line, one_line(line + "\n")) == ("", False, True)
    for word in words.split():
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?!\w)", line), line
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("where", ["--output taken/x", "--csv taken/x", "--csv ."])
def test_what_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    assert mu.main([*QUICK, *where.split()]) == 1
    out, err = capsys.readouterr()
    assert one_line(err)
    assert where.split()[1].split("/")[0] in err
    assert ("Approximate Unlearning" in out) == ("--csv" in where)  # what was found is printed
    assert (tmp_path / "taken").read_text() == "mine"


@posix
def test_a_full_disk_leaves_the_old_files_whole(tmp_path):
    """No file may grow beyond 4 KB: the first figure fails half-written."""
    for name in DEMO:
        (tmp_path / name).write_bytes(b"old")
    code = f"""import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.argv = ["x", "--dpi", "60", "--output", "."]; runpy.run_path({SCRIPT!r}, run_name="__main__")"""
    status, out, err = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (status, one_line(err), "Approximate Unlearning" in out) == (1, True, True), err
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found == dict.fromkeys(DEMO, b"old")


@posix
def test_ctrl_c_ends_a_study_in_one_line_and_all_its_workers(tmp_path):
    tiny = ["--patients", "40", "--forget", "8", "--epochs", "2", "--hidden", "2"]
    command = [sys.executable, SCRIPT, "study", "--trials", "1000", *tiny]
    with started(*command, cwd=tmp_path) as process:
        while "Done" not in (seen := process.stderr.readline()):  # so the workers are at work
            assert seen or process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, err = process.communicate(timeout=60)  # until no worker is left that could write
    lines = [line for line in err.splitlines() if line and not line.startswith("[Parallel")]
    assert (process.returncode, out, len(lines), one_line(lines[0] + "\n")) == (130, "", 1, True)
    assert not list(tmp_path.rglob("*.p*"))


@posix
def test_an_import_has_no_effect_and_a_thread_without_a_main_guard_or_runpy_can_run_it(tmp_path):
    (tmp_path / "caller.py").write_text(f"""
import runpy, sys, threading
import numpy as np, matplotlib as mpl, seaborn, matplotlib.pyplot as plt
state, look = str(np.random.get_state()), dict(mpl.rcParams)
sys.argv = ["machine_unlearning.py", "study", *"{SMALL} --dpi 20 --quiet".split()]
sys.path.insert(0, {str(ROOT)!r})
import machine_unlearning as mu
assert str(np.random.get_state()) == state and dict(mpl.rcParams) == look
thread = threading.Thread(target=lambda: print(mu.main(), plt.get_fignums()))
thread.start()
thread.join()
runpy.run_path({SCRIPT!r}, run_name="__main__")
""")
    done = run(sys.executable, "caller.py", cwd=tmp_path, env={"MPLBACKEND": "svg"})
    assert done == (0, "0 []\n", "")


HOSTILE = """savefig.bbox: tight\nsavefig.transparent: True\nsavefig.facecolor: red
figure.constrained_layout.use: True\npath.sketch: 1, 100, 2\nfont.size: 30\naxes.grid: True"""


@posix
def test_nobodys_environment_changes_a_picture(tmp_path):
    """Neither a backend, nor a matplotlibrc, nor a missing home, nor a narrow console."""
    assert mu.main([*QUICK, "--quiet", "--output", str(tmp_path / "plain")]) == 0
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    environment = {"MPLBACKEND": "module://missing", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
                   "HOME": "/proc/missing", "PYTHONIOENCODING": "ascii:strict"}  # fmt: skip
    folder = tmp_path / "caf\u00e9"
    command = [sys.executable, SCRIPT, *QUICK, "--output", folder]
    status, out, err = run(*command, cwd=tmp_path, env=environment)
    assert (status, "Traceback" in err, "wrote " in out) == (0, False, True), err
    for name in DEMO[:3]:  # the fourth draws times
        plain, other = (plt.imread(tmp_path / "plain" / name), plt.imread(folder / name))
        np.testing.assert_array_equal(plain, other)


SHELL = {  # a line of bash, in which $RUN is the script -> what it prints
    "$RUN --help | true": "",
    "$RUN $QUICK | true; ls output | wc -l": r" *4\n",
    "$RUN $QUICK >&-; ls output | wc -l": r" *4\n",
    "$RUN $QUICK --csv /dev/stdout > log; cat log":
        r"[A-Z](.*\n)+method,seconds,(.+\n){5}(wrote .+\n){5}",
}  # fmt: skip


@posix
@pytest.mark.parametrize("line", SHELL)
def test_pipes_and_redirections(tmp_path, line):
    command = line.replace("$RUN", f"'{sys.executable}' '{SCRIPT}'")
    command = f"set -e -o pipefail; QUICK='{' '.join(QUICK)}'; {command}"
    status, out, err = run("bash", "-c", command, cwd=tmp_path)
    assert (status, err, os.path.islink("/dev/stdout")) == (0, "", True)
    assert re.fullmatch(SHELL[line], out), out
