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
from conftest import COMMANDS, FILES, ROOT, SMALL, assert_page, numbers
from joblib import parallel_config

import machine_unlearning as mu

SCRIPT = str(ROOT / "machine_unlearning.py")
DEMO = FILES["demo"]
QUICK = ["--dpi", "20", "--patients", "60", "--forget", "10", "--epochs", "20"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals, pipes and devices")


@contextmanager
def started(*command, cwd, env=()):
    """A child process, with Ctrl-C as it is for a user, whatever the parent made of it."""
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **dict(env)}
    environment.pop("PYTHONUNBUFFERED", None)
    options = {"cwd": cwd, "env": environment, "text": True, "start_new_session": True}
    if os.name != "nt":
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([*map(str, command)], **streams, **options)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # its workers, too
            process.kill() if os.name == "nt" else os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def run(*command, cwd, env=()):
    """(status, stdout, stderr) of a command."""
    with started(*command, cwd=cwd, env=env) as process:
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
    page, _, files = done.page.partition("\nwrote ")
    written = [os.path.basename(line) for line in files.splitlines()]
    assert (done.files, sorted(written)) == (FILES[experiment], [*done.files, "table.csv"])
    assert_page(page)
    how = " ".join(page.split())[-400:]  # at the end of it, for a citation
    for version in (mu.__version__, sys.version.split()[0], np.__version__, mu.sklearn.__version__):
        assert version in how
    for name, value in [(experiment, ""), *re.findall(r"--(\w+) (\d+)", COMMANDS[experiment])]:
        assert re.search(rf"\b{name}\W+{value}\b", how)


def test_the_csv_is_the_table(ran, patients, abstract, clinical):
    """All rows of the experiments as they are run, but for the times."""
    with parallel_config("sequential"):
        study, sequential = (mu.parse_arguments([*COMMANDS[name].split(), "--quiet"])[1]
                             for name in ("study", "sequential"))  # fmt: skip
        expected = {"study": mu.attack_all(mu.run_trials(study)).reset_index()}
        expected["sequential"], _ = mu.run_sequences(sequential)
    for name, comparison in (("demo", patients), ("basic", abstract), ("clinical", clinical)):
        expected[name] = comparison.results.reset_index()
    for name, right in expected.items():
        columns = [column for column in right if not column.startswith("seconds")]
        table = ran(name).table
        pd.testing.assert_frame_equal(table[columns], right[columns], check_dtype=False)
        assert sorted(table) == sorted(right)
        assert (table.seconds > 0).all()


def printed(page, names):
    """{name: numbers} of the lines of a page that begin with a name and go on with numbers."""
    found = {}
    for line in page.splitlines():
        name = max((name for name in names if line.startswith(name)), key=len, default="")
        if name and re.fullmatch(r"[\d.e+%*()\s-]+", line[len(name) :]):
            found[name] = numbers(line[len(name) :])
    assert list(found) == list(names)
    return found


def test_pages_show_their_tables(ran):
    for name in ("demo", "basic", "clinical"):
        table = ran(name).table.set_index("method")
        for method, shown in printed(ran(name).page, table.index).items():
            row = table.loc[method]
            expected = [1000 * row.seconds]
            expected += [100 * row[f"{rows}_accuracy"] for rows in ("test", "retain", "forget")]
            expected += [row.predictions_changed, row.newly_wrong]
            np.testing.assert_allclose(shown[:6], expected, atol=0.051)
            np.testing.assert_allclose(shown[6:], [row.gap_to_retrained, row.attack_auc], atol=6e-4)
    table = ran("sweep").table.set_index(["epochs", "multiplier"])
    epochs = {str(each): each for each in table.index.unique("epochs")}
    for name, shown in printed(ran("sweep").page, epochs).items():
        expected = 100 * table.loc[epochs[name], ["forget_accuracy", "test_accuracy"]].to_numpy()
        np.testing.assert_allclose(shown, expected.ravel(), atol=0.51)
    table = ran("study").table.set_index(["request", "method"])
    columns, worst = [f"{attack}_accuracy" for attack in mu.ATTACKS], mu.summarise(table)
    for name, shown in printed(ran("study").page, mu.METHODS).items():
        attacks = [100 * table.loc[(kind, name), columns].astype(float) for kind in mu.REQUESTS]
        np.testing.assert_allclose(shown[:6], np.ravel(attacks), atol=0.51)
        costs = worst.loc[name, ["points_lost", "time"]].tolist()
        np.testing.assert_allclose(shown[6:], costs, atol=0.051)
    for kind in mu.REQUESTS:
        forget, seconds = 100 * table.forget_accuracy[kind], table.seconds[kind]
        (line,) = re.findall(rf"^{kind} +(\d.*)", ran("study").page, re.M)
        expected = forget[[mu.NAIVE, mu.RETRAIN, mu.ASCENT]]
        np.testing.assert_allclose(numbers(line)[:3], expected, atol=0.51)
        newton, newton_retrain, descent = seconds[[mu.NEWTON, mu.NEWTON_RETRAIN, mu.RETRAIN]]
        ratios = newton / newton_retrain, newton_retrain / descent
        np.testing.assert_allclose(numbers(line)[3:5], ratios, atol=0.006)
    summary = mu.summarise_ledger(ran("sequential").table)
    for name, shown in printed(ran("sequential").page, mu.STRATEGIES).items():
        columns = ["time", "largest_gap", "elsewhere"][: 2 + name.startswith("Newton")]
        expected = [summary.loc[(kind, name), columns].tolist() for kind in mu.SEQUENCES]
        np.testing.assert_allclose(shown, np.ravel(expected), rtol=0.06, atol=0.006)


ODD = [
    "--epochs 0", "--forget 1", "--unlearn-epochs 0 --patients 60 --forget 10", "--multiplier 1e6",
    "sweep --learning-rate 0 --patients 60 --forget 10",
    f"study --multiplier 1e6 {SMALL} --epochs 5",
    "sequential --epochs 3 --patients 40 --forget 8 --hidden 5",
]  # fmt: skip


@pytest.mark.parametrize("command", ODD)
def test_odd_settings_have_a_page_that_can_be_read(tmp_path, capsys, command):
    with parallel_config("sequential"):
        assert mu.main([*command.split(), "--dpi", "20", "--output", str(tmp_path)]) == 0
    page = capsys.readouterr().out.partition("\nwrote ")[0]
    assert_page(page)
    assert ("Approximate Unlearning diverged" in page) == command.startswith("study")


def test_a_quiet_run_leaves_nothing_but_its_files(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(mpl.rcParams), plt.get_fignums(), str(np.random.get_state())  # noqa: NPY002
    assert mu.main([*QUICK, "--quiet"]) == 0
    after = dict(mpl.rcParams), plt.get_fignums(), str(np.random.get_state())  # noqa: NPY002
    assert (after, capfd.readouterr()) == (before, ("", ""))
    assert (names(tmp_path), names(tmp_path / "output")) == (["output"], DEMO)


def test_resolution_and_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    command = "clinical --dpi 25 --quiet --epochs 1 --output=~/one/deep --csv ~/1.csv"
    assert mu.main(command.split()) == 0
    assert names(tmp_path) == ["1.csv", "one"]
    assert names(tmp_path / "one" / "deep") == FILES["clinical"]
    assert plt.imread(tmp_path / "one" / "deep" / FILES["clinical"][0]).shape[1] == 250


def test_help_shows_every_experiment_flag_and_default(capsys):
    assert mu.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"machine_unlearning.py {mu.__version__}")
    assert mu.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert_page(text)
    words, plain = " ".join(text.split()), mu.Settings()
    for name in mu.EXPERIMENTS:
        assert re.search(rf"^ +{name} +\w", text, re.M)
        defaults = mu.parse_arguments([name])[1]
        for option in mu.fields(mu.Settings):
            value, flag = getattr(defaults, option.name), f"--{option.name.replace('_', '-')}"
            shown = words.partition(f" {flag} ")[2].partition(" --")[0]
            without_effect = f"{name} {flag}" in ("clinical --patients", "sequential --multiplier")
            if value != getattr(plain, option.name) and not without_effect:
                assert f"{name} {value}" in shown
            elif value == getattr(plain, option.name) and option.type in (int, float):
                assert f"(default {value}" in shown
    mu.parse_arguments(text.split("machine_unlearning.py ")[-1].split())  # the example


# ---- How it fails -------------------------------------------------------------------------------

USAGE = """
--forget 0: --forget 0 1, --forget 401: --forget 401 400, --patients 60: --forget 80 48
--seed x: --seed x, --epochs 1.5: --epochs 1.5, --multiplier nan: --multiplier nan
--learning-rate -0.1: --learning-rate, --output: --output, study --patients 39: --patients 39 40
study --trials 3: --trials 3 4, study --forget 7: --forget 7 8 380, seed 3: seed --seed
sequential --forget 381: --forget 381 8 380, --multipler=0.5: --multipler --multiplier
--see 1: --see --seed, stdy: study, cook me a meal: cook, demo basic: basic, -f x.json: notebook
study --multipler -0.5: --multipler --multiplier, clinical --patients 300: --patients clinical
demo --trials 9: --trials demo, basic --trials 9: --trials basic, sweep --trials 9: --trials sweep
clinical --trials 9: --trials clinical, sequential --trials 9: --trials sequential
sequential --unlearn-epochs 9: --unlearn-epochs, sequential --multiplier 1: --multiplier
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


@pytest.mark.parametrize(
    "where", ["--output taken", "--output taken/x", "--csv taken/x", "--csv ."]
)
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
    old = tmp_path / "output"
    old.mkdir()
    for name in DEMO:
        (old / name).write_bytes(b"old")
    code = f"""import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
sys.argv = ["x", "--dpi", "60"]; runpy.run_path({SCRIPT!r}, run_name="__main__")"""
    status, out, err = run(sys.executable, "-c", code, cwd=tmp_path)
    assert (status, one_line(err), "Approximate Unlearning" in out) == (1, True, True), err
    assert {path.name: path.read_bytes() for path in old.iterdir()} == dict.fromkeys(DEMO, b"old")


def test_ctrl_c_while_a_file_is_written_leaves_it_as_it_was(tmp_path, capsys, monkeypatch):
    def interrupted(figure, path, **_):
        path.write_bytes(b"half")
        assert not path.name.endswith(".png")
        raise KeyboardInterrupt

    monkeypatch.setattr(mu.Figure, "savefig", interrupted)
    (tmp_path / DEMO[-1]).write_bytes(b"old")
    assert mu.main([*QUICK, "--output", str(tmp_path)]) == 130
    assert one_line(capsys.readouterr().err)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def alive(group):
    """The processes of a group that are still at work, as far as this machine can tell."""
    if not shutil.which("ps"):
        return []
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [stat for pgid, stat in rows if int(pgid) == group and not stat.startswith("Z")]


@posix
def test_ctrl_c_ends_a_study_in_one_line_and_all_its_workers(tmp_path):
    tiny = ["--patients", "40", "--forget", "8", "--epochs", "2", "--hidden", "2"]
    command = [sys.executable, SCRIPT, "study", "--trials", "1000", *tiny]
    with started(*command, cwd=tmp_path) as process:
        while "Done" not in (seen := process.stderr.readline()):  # so the workers are at work
            assert seen or process.poll() is None
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        lines = [line for line in err.splitlines() if line and not line.startswith("[Parallel")]
        assert lines == ["machine_unlearning.py: error: interrupted"]
        deadline = time.monotonic() + 10
        while alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert (alive(process.pid), list(tmp_path.rglob("*.p*"))) == ([], [])


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
runpy.run_path({SCRIPT!r}, run_name="__main__")
""")
    assert run(sys.executable, "caller.py", cwd=tmp_path) == (0, "0\n", "")


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


QUICKLY = f"$RUN {' '.join(QUICK)}"
SHELL = {  # a line of bash, in which $RUN is the script -> what it prints
    "$RUN --help | true": "",
    f"{QUICKLY} | true; ls output | wc -l": r" *4\n",
    f"{QUICKLY} >&-; ls output | wc -l": r" *4\n",
    f"{QUICKLY} --csv /dev/stdout > log; cat log":
        r"[A-Z](.*\n)+method,seconds,(.+\n){5}(wrote .+\n){5}",
}  # fmt: skip


@posix
@pytest.mark.parametrize("line", SHELL)
def test_pipes_and_redirections(tmp_path, line):
    line, expected = line.replace("$RUN", f"'{sys.executable}' '{SCRIPT}'"), SHELL[line]
    status, out, err = run("bash", "-c", f"set -e -o pipefail; {line}", cwd=tmp_path)
    assert (status, err, os.path.islink("/dev/stdout")) == (0, "", True)
    assert re.fullmatch(expected, out), out


def test_an_import_has_no_effect(tmp_path):
    code = """import sys; sys.path.insert(0, sys.argv[1])
import numpy as np, matplotlib as mpl, seaborn, matplotlib.pyplot as plt
state, look = str(np.random.get_state()), dict(mpl.rcParams)
import machine_unlearning
assert str(np.random.get_state()) == state and dict(mpl.rcParams) == look
assert not plt.get_fignums()"""
    backend = {"MPLBACKEND": "svg"}  # which is the importer's own
    done = run(sys.executable, "-c", code, ROOT, cwd=tmp_path, env=backend)
    assert (*done, names(tmp_path)) == (0, "", "", [])
