"""The command line as its users meet it: what it prints and writes, and how it fails."""

import gc
import io
import os
import runpy
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from multiprocessing import active_children, get_context
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import machine_unlearning as mu

SCRIPT = str(ROOT / "machine_unlearning.py")
DEMO = [
    "concrete_demonstration.png", "decision_boundaries.png", "patient_level_view.png",
    "performance_metrics.png",
]  # fmt: skip
FILES = {
    "demo": DEMO,
    "basic": ["basic_decision_boundaries.png", "basic_performance_metrics.png"],
    "clinical": ["clinical_decision_boundaries.png", "clinical_performance_metrics.png"],
    "sweep": ["parameter_sweep.png"],
}
QUICK = ["--dpi", "20", "--patients", "60", "--forget", "10", "--epochs", "20"]
SMALL = ["--trials", "4", "--patients", "100", "--forget", "16", "--epochs", "20", "--dpi", "20"]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals, pipes and devices")


@contextmanager
def started(*arguments, cwd, **options):
    """A child process, with Ctrl-C as it is for a user, whatever the parent made of it."""
    command = [sys.executable, "-B", SCRIPT, *map(str, arguments)]
    if os.name != "nt":
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    options = {**streams, "env": environment, **options}
    process = subprocess.Popen(command, cwd=cwd, start_new_session=True, **options)
    try:
        yield process
    finally:
        if os.name == "nt":
            process.kill()
        else:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def outputs(process, timeout=120):
    """What a process has printed, as text with its returns of the cursor as they are."""
    streams = process.communicate(timeout=timeout)
    return [None if stream is None else stream.decode() for stream in streams]


def run(*arguments, cwd, **options):
    with started(*arguments, cwd=cwd, **options) as process:
        out, err = outputs(process)
    return process.returncode, out, err


def one_line(text):
    """What is left on a terminal: whatever was printed after the last return of the cursor."""
    text = text.split("\r")[-1]
    return text.count("\n") == 1 and text.startswith("machine_unlearning.py: error: ")


@pytest.mark.parametrize("experiment", FILES)
def test_finding_first_then_tables_then_files(tmp_path, capsys, monkeypatch, experiment):
    monkeypatch.chdir(tmp_path)
    words = [] if experiment == "demo" else [experiment]
    assert mu.main([*words, "--csv", "table.csv", "--dpi", "30"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.isascii()
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith("Over 42 settings" if experiment == "sweep" else "Gradient ascent ")
    written = [os.path.join("output", name) for name in FILES[experiment]] + ["table.csv"]
    lines = out.splitlines()
    last = lines[-len(written) :]
    assert lines[-len(written) - 1] == ""  # between the page and the files
    assert sorted(last) == sorted(f"wrote {path}" for path in written)
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == FILES[experiment]
    for path in written[:-1]:
        data = (tmp_path / path).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert data.endswith(b"IEND\xaeB`\x82")


def test_the_page_is_printed_as_it_is(tmp_path, capsys, monkeypatch):
    result = mu.Result("A finding.", pd.DataFrame(), {})
    fake = mu.EXPERIMENTS["demo"]._replace(run=lambda settings: result)
    monkeypatch.setitem(mu.EXPERIMENTS, "demo", fake)
    path = tmp_path / "table.csv"
    assert mu.main(["--csv", str(path), "--output", str(tmp_path)]) == 0
    assert capsys.readouterr() == (f"A finding.\n\nwrote {path}\n", "")


def test_the_csv_is_the_table(tmp_path):
    path = tmp_path / "table.csv"
    assert mu.main([*QUICK, "--output", str(tmp_path), "--csv", str(path), "--quiet"]) == 0
    table = pd.read_csv(path, index_col="method")
    assert list(table.columns) == [
        "seconds", "test_accuracy", "retain_accuracy", "forget_accuracy", "predictions_changed",
        "gap_to_retrained", "attack_auc",
    ]  # fmt: skip
    comparison = mu.compare(mu.hospital, mu.Settings(patients=60, forget=10, epochs=20))
    pd.testing.assert_frame_equal(
        table.drop(columns="seconds"), comparison.results.drop(columns="seconds")
    )


def test_the_csv_of_the_sweep(tmp_path):
    path = tmp_path / "table.csv"
    command = ["sweep", *QUICK, "--output", tmp_path, "--csv", path, "--unlearn-epochs", 120]
    assert mu.main([*map(str, command), "--quiet"]) == 0
    table = pd.read_csv(path)
    assert list(table.columns) == ["epochs", "multiplier", "test_accuracy", "forget_accuracy"]
    assert sorted(set(table.epochs)) == [25, 50, 75, 100, 120, 145, 200, 300]
    assert len(table) == 8 * 6


def test_quiet(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mu.main([*QUICK, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert len(list((tmp_path / "output").iterdir())) == 4


def test_help_shows_every_experiment_setting_and_default(capsys):
    assert mu.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "usage: machine_unlearning.py [experiment] [flags]\n\n"
        "What does it take to make a trained model forget?\n\n  demo "
    )
    assert text.isascii()
    assert max(map(len, text.splitlines())) <= 80
    for name in mu.EXPERIMENTS:
        assert f"\n  {name} " in text
    headings = [line for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings[-4:] == ["data:", "network:", "ascent:", "output:"]
    words = " ".join(text.split())
    for option in mu.fields(mu.Settings):
        assert f" --{option.name.replace('_', '-')} " in words
    for flag in ["--seed N", "--output DIR", "--csv FILE"]:
        assert f" {flag} " in words
    for default in [
        "(default 42)", "(default none)", "(default 500, basic 1000)", "basic 160, clinical 91)",
        "(default 0.1, study 1.0, sequential 1.0)", "(default 0.7, study 0.07)",
    ]:  # fmt: skip
        assert default in words  # not of a setting that has no effect there
    example, prefix = text.splitlines()[-1], "example: machine_unlearning.py "
    assert example.startswith(prefix)
    mu.parse_arguments(example[len(prefix) :].split())  # it means something


def test_help_to_the_letter(capsys, monkeypatch):
    """Python 3.9 says "optional arguments", and versions break lines in other places."""
    monkeypatch.setenv("COLUMNS", "80")
    assert mu.main(["--help"]) == 0
    text = capsys.readouterr().out.replace("optional arguments:", "options:")
    expected = (ROOT / "tests" / "pages" / "help.txt").read_text(encoding="utf-8")
    assert text.split() == expected.split()


def test_help_without_docstrings(capsys, monkeypatch):
    """As with python -OO, which drops them."""
    monkeypatch.setattr(mu, "__doc__", None)
    for experiment in mu.EXPERIMENTS.values():
        monkeypatch.setattr(experiment.run, "__doc__", None)
    assert mu.main(["--help"]) == 0
    assert "None" not in capsys.readouterr().out


def test_version(capsys):
    assert mu.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"machine_unlearning.py {mu.__version__}"


BOTH = ", so that both classes remain"
SOME = ": each request needs some rows, and 20 must remain"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "--seed -1: the allowed range is 0 to 4,294,967,295"),
        (["--seed", "x"], "argument --seed: invalid int value: 'x'; see --help"),
        (["--epochs", "1.5"], "argument --epochs: invalid int value: '1.5'; see --help"),
        (["--patients", "five"], "argument --patients: invalid int value: 'five'; see --help"),
        (["--dpi", "9"], "--dpi 9: the allowed range is 10 to 1,200"),
        (["--multiplier", "nan"], "--multiplier nan: the allowed range is 0 to 1,000,000"),
        (["--multiplier", "inf"], "--multiplier inf: the allowed range is 0 to 1,000,000"),
        (["--learning-rate", "-0.1"], "--learning-rate -0.1: the allowed range is 0 to 1,000"),
        (
            ["--forget", "0"],
            f"--forget 0: the allowed range is 1 to 397{BOTH} of the 400 training rows",
        ),
        (
            ["--forget", "401"],
            f"--forget 401: the allowed range is 1 to 397{BOTH} of the 400 training rows",
        ),
        (
            ["--patients", "60"],
            f"--forget 80: the allowed range is 1 to 45{BOTH} of the 48 training rows",
        ),
        (
            ["basic", "--patients", "10", "--forget", "9"],
            f"--forget 9: the allowed range is 1 to 6{BOTH} of the 8 training rows",
        ),
        (["study", "--forget", "7"], f"--forget 7: the allowed range is 8 to 380{SOME}"),
        (["sequential", "--forget", "381"], f"--forget 381: the allowed range is 8 to 380{SOME}"),
        (["study", "--patients", "39"], "--patients 39: the allowed range is 40 to 1,000,000"),
        (["study", "--trials", "3"], "--trials 3: the allowed range is 4 to 10,000"),
        (["clinical", "--patients", "300"], "--patients has no effect on clinical; see --help"),
        (["demo", "--trials", "9"], "--trials has no effect on demo; see --help"),
        (["basic", "--trials", "9"], "--trials has no effect on basic; see --help"),
        (["clinical", "--trials", "9"], "--trials has no effect on clinical; see --help"),
        (["sweep", "--trials", "9"], "--trials has no effect on sweep; see --help"),
        (["sequential", "--trials", "9"], "--trials has no effect on sequential; see --help"),
        (
            ["sequential", "--unlearn-epochs", "9"],
            "--unlearn-epochs has no effect on sequential; see --help",
        ),
        (
            ["sequential", "--multiplier", "1"],
            "--multiplier has no effect on sequential; see --help",
        ),
        (["cook"], "not understood: cook; see --help"),
        (["cook", "me", "a", "meal"], "not understood: cook; see --help"),
        (["seed", "3"], "not understood: seed (did you mean --seed?); see --help"),
        (
            ["--multipler", "0.5"],
            "not understood: --multipler (did you mean --multiplier?); see --help",
        ),
        (["--see", "1"], "not understood: --see (did you mean --seed?); see --help"),
        (["stdy"], "not understood: stdy (did you mean study?); see --help"),
        (["demo", "basic"], "not understood: basic; see --help"),
        (["--csv", "a.PNG"], "--csv a.PNG: a table is no picture; give it another name"),
    ],
)
def test_usage_errors_are_one_line_and_leave_nothing(
    tmp_path, capsys, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert mu.main(arguments) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"machine_unlearning.py: error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_a_request_that_leaves_both_classes_is_accepted(tmp_path, capsys):
    """The bound in the message is the largest that works."""
    few = ["--patients", "20", "--output", str(tmp_path), "--dpi", "20", "--epochs", "1", "--quiet"]
    assert mu.main([*few, "--forget", "16"]) == 2
    most = capsys.readouterr().err.split(" 1 to ")[1].split(",")[0]
    assert mu.main([*few, "--forget", most]) == 0
    assert mu.main([*few, "--forget", str(int(most) + 1)]) == 2


@pytest.mark.parametrize("where", ["--output taken", "--output taken/below", "--csv taken/t.csv"])
def test_a_file_stands_where_a_folder_should(tmp_path, capsys, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    monkeypatch.setitem(mu.EXPERIMENTS, "demo", mu.Experiment(None, "must not begin", {}, ()))
    assert mu.main(where.split()) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert one_line(err)
    assert err.endswith(": taken is a file, not a folder\n")
    assert (tmp_path / "taken").read_text() == "mine"


@posix
def test_a_symlink_that_leads_nowhere_is_said_before_the_work(tmp_path, capsys, monkeypatch):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    monkeypatch.setitem(mu.EXPERIMENTS, "demo", mu.Experiment(None, "must not begin", {}, ()))
    assert mu.main(["--output", str(loop)]) == 1
    assert one_line(capsys.readouterr().err)


def test_csv_is_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mu.main(["--csv", "."]) == 1
    assert capsys.readouterr().err.endswith(": . is a folder, not a file\n")
    assert list(tmp_path.iterdir()) == []  # said before the work


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a folder nobody can write to")
def test_an_unwritable_folder_is_said_before_the_work(capsys, monkeypatch):
    monkeypatch.setitem(mu.EXPERIMENTS, "demo", mu.Experiment(None, "must not begin", {}, ()))
    for option in (["--output", "/proc/here"], ["--csv", "/proc/table.csv"]):
        assert mu.main(option) == 1
        err = capsys.readouterr().err
        assert one_line(err)
        assert "error: cannot write /proc: " in err


def test_what_was_found_is_printed_even_if_it_cannot_be_written(tmp_path, capsys, monkeypatch):
    def no_room(path, save):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mu, "write", no_room)
    assert mu.main(QUICK) == 1
    out, err = capsys.readouterr()
    assert "Approximate Unlearning" in out
    assert one_line(err)
    assert "No space left on device" in err
    assert "performance_metrics.png" in err


@posix
def test_a_full_disk_leaves_the_old_files(tmp_path):
    """No file may grow beyond 4 KB: every figure fails half-written, as on a full disk."""
    old = tmp_path / "output"
    old.mkdir()
    for name in DEMO:
        (old / name).write_bytes(b"old")
    code = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        f"sys.argv = ['x', '--dpi', '60']; runpy.run_path({SCRIPT!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert one_line(done.stderr)
    path = os.path.join("output", "performance_metrics.png")
    assert f"error: cannot write {path}: File too large" in done.stderr
    assert {path.name: path.read_bytes() for path in old.iterdir()} == dict.fromkeys(DEMO, b"old")


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def half(beside):
        beside.write_bytes(b"ha")
        visible = [each.name for each in tmp_path.iterdir() if not each.name.startswith(".")]
        assert visible == ["figure.png"]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mu.write(path, half)
    assert [each.name for each in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"old"
    mu.write(path, lambda beside: beside.write_bytes(b"new"))
    assert [each.name for each in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"new"


@posix
def test_a_symlink_is_replaced_and_not_followed(tmp_path):
    somebodys = tmp_path / "somebodys"
    somebodys.write_text("precious")
    link = tmp_path / "table.csv"
    link.symlink_to(somebodys)
    old_mask = os.umask(0o022)
    try:
        mu.write(link, lambda beside: beside.write_text("table"))
    finally:
        os.umask(old_mask)
    assert somebodys.read_text() == "precious"
    assert not link.is_symlink()
    assert link.read_text() == "table"
    assert link.stat().st_mode & 0o777 == 0o644  # as any other new file


@posix
def test_a_device_or_pipe_is_written_to_and_not_replaced(tmp_path):
    pipe, saved = tmp_path / "pipe", []
    os.mkfifo(pipe)
    for special in (pipe, mu.Path("/dev/stdout"), mu.Path("/dev/fd/63")):
        mu.write(special, saved.append)
        assert saved.pop() == special
    assert mu.is_special(mu.Path(os.devnull))
    assert not mu.is_special(mu.Path("/dev/shm/table.csv"))  # a folder like any other
    assert pipe.is_fifo()


@posix
def test_the_csv_may_go_to_standard_output(tmp_path):
    with open(tmp_path / "log", "w+") as log:
        status, _, _ = run(*QUICK, "--csv", "/dev/stdout", cwd=tmp_path, stdout=log)
        log.seek(0)
        text = log.read()
    assert status == 0
    assert text.startswith("Gradient ascent")
    assert "\nmethod,seconds," in text
    assert os.path.islink("/dev/stdout")


@posix
def test_the_page_is_printed_before_a_file_is_written(tmp_path):
    """Nobody reads the pipe to which the table shall go, and the run waits for it."""
    os.mkfifo(tmp_path / "pipe")
    with started(*QUICK, "--csv", "pipe", cwd=tmp_path) as process:
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready
        assert process.stdout.readline().startswith(b"Gradient ascent")


@posix
def test_a_run_that_is_killed_leaves_whole_files_only(tmp_path):
    output = tmp_path / "output"
    with started(cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not list(output.glob("*.png")):
            time.sleep(0.005)
        time.sleep(0.05)  # into the next figure
        process.kill()
        process.wait()
    for path in output.glob("*.png"):
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


def wait_for_progress(process):
    """Until the first trial or patient is done."""
    while process.stderr.read(1) != b"\r":
        assert process.poll() is None


def alive(group):
    """The processes of a group that are still at work, as far as this machine can tell."""
    if not shutil.which("ps"):
        return []
    listed = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True)
    rows = [line.split() for line in listed.stdout.splitlines()]
    return [stat for pgid, stat in rows if int(pgid) == group and not stat.startswith("Z")]


def assert_nobody_is_left(group):
    deadline = time.monotonic() + 5
    while alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert alive(group) == []


@posix
@pytest.mark.parametrize(
    ("sent", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_a_study_that_is_stopped_says_one_line_and_leaves_no_worker(tmp_path, sent, status, word):
    with started("study", "--forget", "30", cwd=tmp_path) as process:
        wait_for_progress(process)
        if sent == signal.SIGINT:
            os.killpg(process.pid, sent)  # as a terminal does: to all of them
        else:
            process.send_signal(sent)
        start = time.monotonic()
        out, err = outputs(process, timeout=30)
        assert time.monotonic() - start < 10
        assert (process.returncode, out) == (status, "")
        assert one_line(err)
        assert f"error: {word}" in err
        assert_nobody_is_left(process.pid)
    assert not list(tmp_path.iterdir())


@posix
def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    with started("study", "--forget", "30", cwd=tmp_path) as process:
        wait_for_progress(process)
        process.kill()
        process.wait()
        assert_nobody_is_left(process.pid)


@posix
def test_workers_leave_ctrl_c_to_their_parent():
    """One that is idle would otherwise die of it, with a traceback."""
    assert mu.in_parallel(signal.getsignal, [(signal.SIGINT,)], quiet=True) == [signal.SIG_IGN]


def test_a_failure_stops_the_workers_and_nobody_else():
    somebodys = get_context("spawn").Process(target=time.sleep, args=(60,))
    somebodys.start()
    try:
        with pytest.raises(ZeroDivisionError):
            mu.in_parallel(divmod, [(1, 0)], quiet=True)
        assert active_children() == [somebodys]
    finally:
        somebodys.kill()
        somebodys.join()


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@posix
def test_a_worker_that_dies_is_one_line(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(mu, "study_trial", die)
    assert mu.main(["study", *SMALL, "--output", str(tmp_path)]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert one_line(err)
    assert "a worker process died" in err


def test_the_study_runs_in_a_thread(tmp_path):
    found = []
    command = ["study", *SMALL, "--output", str(tmp_path), "--quiet"]
    thread = threading.Thread(target=lambda: found.append(mu.main(command)))
    thread.start()
    thread.join(timeout=100)
    assert found == [0]


ARGUMENTS = ["study", *SMALL, "--quiet"]
CALLERS = {
    "a script without a main guard": f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import machine_unlearning as mu
print(mu.main({ARGUMENTS}))
""",
    "%run in a notebook, whose module __main__ lacks __spec__": f"""
import sys, types
sys.argv = ["machine_unlearning.py", *{ARGUMENTS}]
sys.modules["__main__"] = module = types.ModuleType("__main__")
del module.__spec__
module.__file__ = {SCRIPT!r}
try:
    exec(open({SCRIPT!r}, encoding="utf-8").read(), vars(module))
except SystemExit as stop:
    print(stop.code)
""",
}


@pytest.mark.parametrize("caller", CALLERS)
def test_the_study_runs_from(tmp_path, caller):
    script = tmp_path / "caller.py"
    script.write_text(CALLERS[caller])
    done = subprocess.run(
        [sys.executable, "-B", str(script)],
        cwd=tmp_path, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("0\n", "")


@posix
def test_whoever_has_read_enough_may_close_the_pipe(tmp_path):
    with started(*QUICK, cwd=tmp_path) as process:
        process.stdout.close()
        err = process.stderr.read()
        status = process.wait(timeout=60)
    assert (status, err) == (0, b"")
    assert len(list((tmp_path / "output").iterdir())) == 4


def test_a_closed_pipe_is_no_failure(monkeypatch, capsys):
    """Wherever it is noticed; with Python 3.9, --help does."""

    def notice(name, settings):
        raise BrokenPipeError

    monkeypatch.setattr(mu, "run", notice)
    assert mu.main([]) == 0
    assert capsys.readouterr() == ("", "")


@posix
@pytest.mark.parametrize("arguments", [["--help"], QUICK])
def test_a_full_device_is_at_most_one_line(tmp_path, arguments):
    with open("/dev/full", "w") as full:
        status, _, err = run(*arguments, cwd=tmp_path, stdout=full)
    assert status == 1
    assert one_line(err)


@posix
def test_closed_streams(tmp_path):
    command = f"exec {sys.executable} -B {SCRIPT} {' '.join(QUICK)} >&- 2>&-"
    assert subprocess.run(command, shell=True, cwd=tmp_path).returncode == 0
    assert len(list((tmp_path / "output").iterdir())) == 4


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_an_output_stream_of_a_notebook_or_an_ide(tmp_path, monkeypatch, stream):
    """Such streams lack reconfigure and fileno, or are not there at all; run as %run does."""
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(version_info=(9, 0), get_ipython=lambda: None)
    )
    monkeypatch.setenv("MPLBACKEND", "agg")
    frozen = gc.get_freeze_count()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "argv", ["x", *QUICK, "--output", str(tmp_path)])
    handler = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(SCRIPT, run_name="__main__")
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert stop.value.code == 0
    assert os.environ["MPLBACKEND"] == "agg"  # of a notebook, which goes on
    assert gc.get_freeze_count() == frozen
    assert stream is None or "Approximate Unlearning" in stream.getvalue()
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.parametrize(
    "backend", ["nonsense", "module://matplotlib_inline.backend_inline", "TkAgg"]
)
def test_no_backend_no_home_and_a_narrow_console(tmp_path, backend):
    environment = {
        "PATH": os.environ["PATH"],
        "MPLBACKEND": backend,
        "HOME": str(tmp_path / "missing"),
        "MPLCONFIGDIR": str(tmp_path / "config"),
        "PYTHONIOENCODING": "ascii:strict",
        "SYSTEMROOT": os.environ.get("SYSTEMROOT", ""),
    }
    folder = tmp_path / "caf\u00e9"
    status, out, err = run(*QUICK, "--output", folder, cwd=tmp_path, env=environment)
    err = "".join(line for line in err.splitlines() if "font cache" not in line)
    assert (status, err) == (0, "")
    assert "wrote " in out
    assert len(list(folder.iterdir())) == 4


def test_an_import_leaves_the_backend_to_the_importer(monkeypatch):
    code = (
        f"import os, sys; sys.path.insert(0, {str(ROOT)!r}); import machine_unlearning, matplotlib;"
        "print(os.environ['MPLBACKEND'], matplotlib.rcParams['backend'])"
    )
    environment = {**os.environ, "MPLBACKEND": "svg"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout.split() == ["svg", "svg"]


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


def test_a_personal_matplotlibrc_changes_nothing(tmp_path, monkeypatch):
    """And the same command makes the same files, but for the figure that draws times."""
    command = [*QUICK, "--quiet", "--output"]
    assert mu.main([*command, str(tmp_path / "plain")]) == 0
    (tmp_path / "matplotlibrc").write_text(HOSTILE)
    environment = {**os.environ, "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    status, _, _ = run(*command, tmp_path / "hostile", cwd=tmp_path, env=environment)
    assert status == 0
    for name in DEMO[:3]:
        plain, hostile = (plt.imread(tmp_path / folder / name) for folder in ("plain", "hostile"))
        np.testing.assert_array_equal(plain, hostile)


def test_two_runs_at_once_both_finish(tmp_path):
    with started(*QUICK, "--quiet", cwd=tmp_path) as one, started(*QUICK, cwd=tmp_path) as other:
        for process in (one, other):
            process.communicate(timeout=100)
            assert process.returncode == 0
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == DEMO
