"""The command line as its users meet it: what it prints and writes, and how it fails."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import COMMANDS, DEMO, FILES, ROOT, SMALL, assert_page

import machine_unlearning as mu

SCRIPT = str(ROOT / "machine_unlearning.py")
MEANS = ["seconds", "test_accuracy", "retain_accuracy", "forget_accuracy", "gap_to_retrained"]
DEMO_COLUMNS = ["method", *MEANS[:4], "predictions_changed", "gap_to_retrained", "attack_auc"]
COLUMNS = {
    **dict.fromkeys(["demo", "basic", "clinical"], DEMO_COLUMNS),
    "sweep": ["epochs", "multiplier", "test_accuracy", "forget_accuracy"],
    "study": ["request", "method", *(
        name + end for name in [*MEANS, "attack_accuracy"] for end in ("", "_low", "_high")
    ), "attack_limit"],
    "sequential": ["request", "method", "asked", "seconds", "gap_to_retrained", "spent", "allowed",
                   "residual", "retrained"],
}  # fmt: skip
QUICK = ["--dpi", "20", "--patients", "60", "--forget", "10", "--epochs", "20"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals, pipes and devices")


@contextmanager
def started(*command, cwd, **options):
    """A child process, with Ctrl-C as it is for a user, whatever the parent made of it."""
    if os.name != "nt":
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **options.pop("env", {})}
    environment.pop("PYTHONUNBUFFERED", None)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    options = {**streams, "env": environment, "start_new_session": True, **options}
    process = subprocess.Popen([*map(str, command)], cwd=cwd, **options)
    try:
        yield process
    finally:
        if os.name == "nt":
            process.kill()
        else:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.communicate()


def run(*command, cwd, **options):
    """(status, stdout, stderr) of a command."""
    with started(*command, cwd=cwd, **options) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def one_line(text):
    return text.count("\n") == 1 and text.startswith("machine_unlearning.py: error: ")


# ---- What it prints and writes ------------------------------------------------------------------


@pytest.mark.parametrize("experiment", COMMANDS)
def test_the_page_then_the_files(ran, experiment):
    done = ran(experiment)
    lines = done.page.splitlines()
    assert done.files == FILES[experiment]
    written = [*done.files, "table.csv"]
    assert all(line.startswith("wrote ") for line in lines[-len(written) :])
    assert sorted(os.path.basename(line) for line in lines[-len(written) :]) == sorted(written)
    page = done.page[: done.page.index("\nwrote ")]
    assert "wrote" not in page
    assert_page(page)
    how = " ".join(page.split())[-400:]  # at the end of it, for a citation
    assert re.search(rf"{re.escape(mu.__version__)}.*\b{experiment}\b.*\bseed\W+42\b", how)
    for version in (sys.version.split()[0], np.__version__, mu.sklearn.__version__):
        assert version in how
    for name, value in re.findall(r"--(\w+) (\d+)", COMMANDS[experiment]):
        assert re.search(rf"\b{name}\W+{value}\b", how)


@pytest.mark.parametrize("experiment", COMMANDS)
def test_the_csv_has_the_columns_that_others_read(ran, experiment):
    expected = COLUMNS[experiment]
    assert list(ran(experiment).table.columns)[: len(expected)] == expected


@pytest.mark.parametrize("fixture", ["patients", "abstract", "clinical"])
def test_the_csv_is_the_table(ran, request, fixture):
    name = {"patients": "demo", "abstract": "basic"}.get(fixture, fixture)
    results = request.getfixturevalue(fixture).results.drop(columns="seconds")
    table = ran(name).table.set_index("method")
    pd.testing.assert_frame_equal(table.drop(columns="seconds"), results)
    assert (table.seconds > 0).all()


def test_the_csv_of_the_study_and_of_the_sequence(ran):
    """All rows of the experiments as they are run, but for the times."""
    study, sequential = ran("study"), ran("sequential")
    ledger, _ = mu.run_sequences(mu.replace(sequential.settings, quiet=True))
    trials = mu.run_trials(mu.replace(study.settings, quiet=True))
    for done, expected in ((study, mu.attack_all(trials).reset_index()), (sequential, ledger)):
        columns = [name for name in expected if not name.startswith("seconds")]
        pd.testing.assert_frame_equal(done.table[columns], expected[columns], check_dtype=False)


def test_the_sweep_includes_ones_own_setting(settings, patients):
    chosen = mu.replace(settings, unlearn_epochs=120, multiplier=0.2)
    epochs, multipliers = mu.try_doses(patients, chosen).index.levels
    assert list(epochs) == [25, 50, 75, 100, 120, 145, 200, 300]
    assert list(multipliers) == [0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5]


def test_a_page_shows_the_numbers_of_its_table(ran):
    """Rows of words and numbers: enough to see that no column stands under another's heading."""
    for name in ("demo", "basic", "clinical"):
        done = ran(name)
        for row in done.table.itertuples():
            (line,) = (x for x in done.page.splitlines() if re.match(rf"{row.method} +[\d.]+ ", x))
            numbers = [float(x) for x in re.findall(r"-?\d[\d.]*", line)]
            accuracies = row.test_accuracy, row.retain_accuracy, row.forget_accuracy
            expected = [1000 * row.seconds, *(100 * accuracy for accuracy in accuracies)]
            expected += [row.predictions_changed, row.newly_wrong, row.gap_to_retrained]
            np.testing.assert_allclose(numbers, [*expected, row.attack_auc], atol=0.05)
            np.testing.assert_allclose(numbers[-2:], [expected[-1], row.attack_auc], atol=6e-4)
    done = ran("sweep")
    table = done.table.set_index(["epochs", "multiplier"])
    lines = [x.split() for x in done.page.splitlines() if re.match(r"\d+  .*\(\d+\)", x)]
    found = {int(first): [int(word.strip("()")) for word in line] for first, *line in lines}
    assert list(found) == sorted(set(done.table.epochs))
    for epochs, line in found.items():
        right = 100 * table.loc[epochs, ["forget_accuracy", "test_accuracy"]]
        np.testing.assert_allclose(line, right.to_numpy().ravel(), atol=0.51)


def test_the_pages_of_the_study_and_of_the_sequence_show_their_tables(ran):
    done = ran("study")
    table = done.table.set_index(["request", "method"])
    for name in mu.METHODS:
        (line,) = (x for x in done.page.splitlines() if re.match(rf"{name} +[\d*]+ ", x))
        numbers = [float(x) for x in re.findall(r"-?\d[\d.]*", line)]
        attacks = [100 * table.loc[(kind, name), f"{attack}_accuracy"]
                   for kind in mu.REQUESTS for attack in mu.ATTACKS]  # fmt: skip
        worst = mu.summarise(table).loc[name]
        np.testing.assert_allclose(numbers[:6], attacks, atol=0.51)
        np.testing.assert_allclose(numbers[6:], [worst.points_lost, worst.time], atol=0.051)
    done = ran("sequential")
    summary = mu.summarise_ledger(done.table)
    for name in mu.STRATEGIES:
        (line,) = (x for x in done.page.splitlines() if re.match(rf"{name} +[\d.]+ ", x))
        numbers = [float(x) for x in re.findall(r"\d[\d.]*(?:e[-+]\d+)?", line)]
        counted = name in (mu.NEWTON, mu.NEWTON_RETRAIN)
        expected = [[row.time, row.largest_gap, row.elsewhere][: 2 + counted]
                    for row in (summary.loc[kind, name] for kind in mu.SEQUENCES)]  # fmt: skip
        np.testing.assert_allclose(numbers, np.concatenate(expected), rtol=0.06, atol=0.006)


ODD = [
    "--epochs 0", "basic --epochs 0", "--forget 1", "--unlearn-epochs 0 --patients 60 --forget 10",
    "--multiplier 1e6", "sweep --learning-rate 0 --patients 60 --forget 10",
    f"study --multiplier 1e6 {SMALL} --epochs 5",
    "sequential --epochs 3 --patients 40 --forget 8 --hidden 5",
]  # fmt: skip


@pytest.mark.parametrize("command", ODD)
def test_odd_settings_have_a_page_that_can_be_read(tmp_path, capsys, command):
    assert mu.main([*command.split(), "--dpi", "20", "--output", str(tmp_path)]) == 0
    page = capsys.readouterr().out.partition("\nwrote ")[0]
    assert_page(page)
    assert ("Approximate Unlearning diverged" in page) == command.startswith("study")


def test_quiet_prints_nothing(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mu.main([*QUICK, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert names(tmp_path / "output") == DEMO


def test_a_run_leaves_no_trace_in_the_process(tmp_path):
    """Neither does it depend on what was there."""
    parameters, figures = dict(mpl.rcParams), plt.get_fignums()
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert mu.main([*QUICK, "--output", str(tmp_path), "--quiet"]) == 0
    assert dict(mpl.rcParams) == parameters
    assert plt.get_fignums() == figures
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_resolution_and_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    command = ["clinical", "--dpi", "25", "--quiet", "--epochs", "1"]
    assert mu.main([*command, "--output", "~/one/deep", "--csv", "~/1.csv"]) == 0
    assert mu.main([*command, "--output=~/two", "--csv=~/2.csv"]) == 0
    assert names(tmp_path) == ["1.csv", "2.csv", "one", "two"]
    assert names(tmp_path / "two") == names(tmp_path / "one" / "deep") == FILES["clinical"]
    assert plt.imread(tmp_path / "two" / FILES["clinical"][0]).shape[1] == 250


def test_help_shows_every_experiment_flag_and_default(capsys):
    assert mu.main(["--help"]) == 0
    text = capsys.readouterr().out
    words = " ".join(text.split())
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    assert "None" not in text
    without_effect = [("clinical", "patients"), ("sequential", "multiplier")]
    for name in mu.EXPERIMENTS:
        assert re.search(rf"^ +{name} +\w", text, re.M)
        defaults, plain = mu.parse_arguments([name])[1], mu.Settings()
        for option in mu.fields(mu.Settings):
            value, flag = getattr(defaults, option.name), f"--{option.name.replace('_', '-')}"
            shown = words.partition(f" {flag} ")[2].partition(" --")[0]
            own = value != getattr(plain, option.name)
            if own and (name, option.name) not in without_effect:
                assert f"{name} {value}" in shown
            elif not own and option.type in (int, float):
                assert f"(default {value}" in shown
    example = text.splitlines()[-1].split("machine_unlearning.py ")[1]
    mu.parse_arguments(example.split())  # it means something


def test_version(capsys):
    assert mu.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"machine_unlearning.py {mu.__version__}")


# ---- How it fails -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("--forget 0", "--forget 0 1"), ("--forget 401", "--forget 401 400"),
        ("--patients 60", "--forget 80 48"), ("basic --patients 10 --forget 9", "--forget 9 8"),
        ("--seed -1", "--seed -1 0 4,294,967,295"), ("--seed x", "--seed x"),
        ("--epochs 1.5", "--epochs 1.5"), ("--epochs -1", "--epochs -1"),
        ("--patients five", "--patients five"), ("--dpi 9", "--dpi 9 10 1,200"),
        ("--multiplier nan", "--multiplier nan"), ("--multiplier inf", "--multiplier inf"),
        ("--learning-rate nan", "--learning-rate"), ("--learning-rate -0.1", "--learning-rate"),
        ("--hidden 0", "--hidden 0"), ("study --trials 3", "--trials 3 4"),
        ("study --forget 7", "--forget 7 8 380"), ("sequential --forget 381", "--forget 381 8 380"),
        ("study --patients 39", "--patients 39 40"), ("--output", "--output"),
        ("seed 3", "seed --seed"), ("--multipler 0.5", "--multipler --multiplier"),
        ("--multipler=0.5", "--multipler --multiplier"), ("--see 1", "--see --seed"),
        ("study --multipler -0.5", "--multipler --multiplier"), ("stdy", "stdy study"),
        ("cook", "cook"), ("cook me a meal", "cook"), ("demo basic", "basic"),
        ("clinical --patients 300", "--patients clinical"),
        *((f"{name} --trials 9", f"--trials {name}")
          for name in ("demo", "basic", "clinical", "sweep", "sequential")),
        ("sequential --unlearn-epochs 9", "--unlearn-epochs sequential"),
        ("sequential --multiplier 1", "--multiplier sequential"),
    ],
)  # fmt: skip
def test_usage_errors(tmp_path, capsys, monkeypatch, command, words):
    """Status 2, the flag at fault named, or the nearest right word, and nothing written."""
    monkeypatch.chdir(tmp_path)
    assert mu.main(command.split()) == 2
    out, err = capsys.readouterr()
    *usage, line = err.splitlines()
    assert (out, len(usage) <= 2, "invalid choice" in line) == ("", True, False)
    assert line.startswith("machine_unlearning.py: error: ")
    for word in words.split():
        assert re.search(rf"(?<![\w-]){re.escape(word)}(?!\w)", line), line
    near = re.search(r"did you mean ([\w-]+)", line)
    assert (near and near[1]) == (words.split()[1] if "did you mean" in line else None)
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize("command", ["seed 3", "--multipler 0.5", "--see 1", "stdy"])
def test_the_nearest_right_word_is_said(capsys, command):
    assert mu.main(command.split()) == 2
    assert "did you mean " in capsys.readouterr().err


@pytest.mark.parametrize("where", ["--output taken", "--output taken/below", "--csv taken/t.csv",
                                   "--csv ."])  # fmt: skip
def test_what_cannot_be_written_is_one_line(tmp_path, capsys, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    assert mu.main([*QUICK, *where.split()]) == 1
    out, err = capsys.readouterr()
    assert one_line(err)
    assert where.split("/")[0].split()[1] in err
    assert ("Approximate Unlearning" in out) == ("--csv" in where)  # what was found is printed
    assert (tmp_path / "taken").read_text() == "mine"


@posix
def test_a_full_disk_leaves_the_old_files_whole(tmp_path):
    """No file may grow beyond 4 KB: the first figure fails half-written."""
    old = tmp_path / "output"
    old.mkdir()
    for name in DEMO:
        (old / name).write_bytes(b"old")
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        f"sys.argv = ['x', '--dpi', '60']; runpy.run_path({SCRIPT!r}, run_name='__main__')"
    )
    status, out, err = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (status, one_line(err)) == (1, True), err
    assert "Approximate Unlearning" in out
    assert {path.name: path.read_bytes() for path in old.iterdir()} == dict.fromkeys(DEMO, b"old")


def test_ctrl_c_while_a_file_is_written_leaves_it_as_it_was(tmp_path, capsys, monkeypatch):
    class Interrupted:
        def savefig(self, path, **_):
            path.write_bytes(b"half")
            assert not path.name.endswith(".png")
            raise KeyboardInterrupt

    experiment = (lambda _: ("page", pd.DataFrame(), {"a.png": Interrupted()}), "", {}, [])
    monkeypatch.setitem(mu.EXPERIMENTS, "demo", experiment)
    (tmp_path / "a.png").write_bytes(b"old")
    assert mu.main(["--output", str(tmp_path)]) == 130
    assert one_line(capsys.readouterr().err)
    assert names(tmp_path) == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == b"old"


def alive(group):
    """The processes of a group that are still at work, as far as this machine can tell."""
    if not shutil.which("ps"):
        return []
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [stat for pgid, stat in rows if int(pgid) == group and not stat.startswith("Z")]


@posix
def test_ctrl_c_ends_a_study_in_one_line_and_all_its_workers(tmp_path):
    with started(sys.executable, SCRIPT, "study", "--forget", "30", cwd=tmp_path) as process:
        while "Parallel" not in (seen := process.stderr.readline()):  # the workers are about
            assert seen or process.poll() is None
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        lines = [line for line in err.splitlines() if line and not line.startswith("[Parallel")]
        assert lines == ["machine_unlearning.py: error: interrupted"]
        deadline = time.monotonic() + 10
        while alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alive(process.pid) == []
    assert not list(tmp_path.rglob("*.p*"))


# ---- Where it is run ----------------------------------------------------------------------------


def test_the_study_runs_in_a_thread(tmp_path, capfd):
    found = []
    command = ["study", *SMALL.split(), "--dpi", "20", "--output", str(tmp_path), "--quiet"]
    thread = threading.Thread(target=lambda: found.append(mu.main(command)))
    thread.start()
    thread.join(timeout=100)
    assert (found, *capfd.readouterr()) == ([0], "", "")


def test_the_study_runs_from_a_script_without_a_main_guard_and_under_runpy(tmp_path):
    (tmp_path / "caller.py").write_text(f"""
import runpy, sys
sys.argv = ["machine_unlearning.py", "study", *"{SMALL} --dpi 20 --quiet".split()]
sys.path.insert(0, {str(ROOT)!r})
import machine_unlearning as mu
print(mu.main())
try:
    runpy.run_path({SCRIPT!r}, run_name="__main__")
except SystemExit as stop:
    print(stop.code)
""")
    assert run(sys.executable, "caller.py", cwd=tmp_path) == (0, "0\n0\n", "")


HOSTILE = """
figure.constrained_layout.use: True
savefig.bbox: tight
savefig.transparent: True
savefig.facecolor: red
path.sketch: 1, 100, 2
font.size: 30
axes.grid: True
lines.linewidth: 5
"""


@posix
@pytest.mark.parametrize("backend", ["module://does_not_exist", "nonsense"])
def test_nobodys_environment_changes_a_picture(tmp_path, backend):
    """Neither a backend, nor a matplotlibrc, nor a missing home, nor a narrow console."""
    assert mu.main([*QUICK, "--quiet", "--output", str(tmp_path / "plain")]) == 0
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    environment = {"MPLBACKEND": backend, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"),
                   "HOME": "/proc/missing", "PYTHONIOENCODING": "ascii:strict"}  # fmt: skip
    folder = tmp_path / "caf\u00e9"
    command = [sys.executable, SCRIPT, *QUICK, "--output", folder]
    status, out, err = run(*command, cwd=tmp_path, env=environment)
    assert (status, "Traceback" in err, "wrote " in out) == (0, False, True), err
    for name in DEMO[:3]:  # the fourth draws times
        plain, other = (plt.imread(tmp_path / "plain" / name), plt.imread(folder / name))
        np.testing.assert_array_equal(plain, other)


QUICKLY = f"$RUN {' '.join(QUICK)}"
SHELL = {  # a line of bash, in which $RUN is the script -> what it prints
    "$RUN --help | true": "",
    f"{QUICKLY} | true; ls output | wc -l": r" *4\n",
    f"{QUICKLY} >&-; ls output | wc -l": r" *4\n",
    f"{QUICKLY} --csv /dev/stdout --quiet | cat": r"method,seconds,(.+\n){5}",
    f"{QUICKLY} --csv /dev/stdout > log; cat log":
        r"[A-Z](.*\n)+method,seconds,(.+\n){5}(wrote .+\n){5}",
}  # fmt: skip


@posix
@pytest.mark.parametrize("line", SHELL)
def test_pipes_and_redirections(tmp_path, line):
    line, expected = line.replace("$RUN", f"'{sys.executable}' '{SCRIPT}'"), SHELL[line]
    status, out, err = run("bash", "-c", f"set -e -o pipefail; {line}", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert re.fullmatch(expected, out), out
    assert os.path.islink("/dev/stdout")


def test_an_import_has_no_effect(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, matplotlib as mpl, seaborn, matplotlib.pyplot as plt\n"
        "state, look = np.random.get_state()[1].copy(), dict(mpl.rcParams)\n"
        "import machine_unlearning\n"
        "assert (np.random.get_state()[1] == state).all() and dict(mpl.rcParams) == look\n"
        "assert not plt.get_fignums()"
    )
    backend = {"MPLBACKEND": "svg"}  # which is the importer's own
    done = run(sys.executable, "-c", code, ROOT, cwd=tmp_path, env=backend)
    assert done == (0, "", "")
    assert names(tmp_path) == []
