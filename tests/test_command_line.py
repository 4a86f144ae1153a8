"""The command line as its users meet it: a process, in an empty folder."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import ROOT

import machine_unlearning as mu

SCRIPT = str(ROOT / "machine_unlearning.py")
DEMO = [
    "concrete_demonstration.png",
    "decision_boundaries.png",
    "patient_level_view.png",
    "performance_metrics.png",
]
FILES = {
    "demo": DEMO,
    "basic": ["basic_decision_boundaries.png", "basic_performance_metrics.png"],
    "sweep": ["parameter_sweep.png"],
}
PNG = b"\x89PNG\r\n\x1a\n"
QUICK = ["--dpi", "20", "--patients", "60", "--forget", "10", "--epochs", "20"]


def run(*arguments, cwd, **options):
    command = [sys.executable, "-B", SCRIPT, *map(str, arguments)]
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run(command, cwd=cwd, **options)


def one_line(text):
    return text.count("\n") == 1 and text.startswith("machine_unlearning.py: error: ")


@pytest.mark.parametrize("experiment", FILES)
def test_an_experiment_in_an_empty_folder(tmp_path, experiment):
    done = run(*([] if experiment == "demo" else [experiment]), "--csv", "table.csv", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "table.csv"]
    written = sorted(path.name for path in (tmp_path / "output").iterdir())
    assert written == FILES[experiment]
    last = done.stdout.splitlines()[-len(written) - 1 :]
    assert sorted(last) == sorted(
        [f"wrote {os.path.join('output', n)}" for n in written] + ["wrote table.csv"]
    )
    for name in written:
        assert (tmp_path / "output" / name).read_bytes().startswith(PNG)
    assert done.stdout.isascii()


def test_the_csv_is_the_table(tmp_path, capsys):
    path = tmp_path / "table.csv"
    assert mu.main(["--output", str(tmp_path), "--dpi", "20", "--csv", str(path)]) == 0
    table = pd.read_csv(path, index_col="method")
    assert list(table.columns) == [
        "seconds", "test_accuracy", "retain_accuracy", "forget_accuracy", "predictions_changed",
        "gap_to_retrained", "attack_auc",
    ]  # fmt: skip
    assert list(table.index) == [
        "Original Model",
        "Full Retrain",
        "Naive Deletion",
        "Approximate Unlearning",
    ]
    assert list(table.forget_accuracy) == pytest.approx([0.95, 0.95, 0.95, 0.70])
    assert list(table.predictions_changed) == [0, 0, 0, 22]
    printed = capsys.readouterr().out
    for value in table.gap_to_retrained:
        assert f"{value:.4f}" in printed


def test_the_csv_of_the_sweep(tmp_path):
    path = tmp_path / "table.csv"
    command = [
        "sweep",
        "--output",
        tmp_path,
        "--csv",
        path,
        "--unlearn-epochs",
        120,
        "--quiet",
        "--dpi",
        20,
    ]
    assert mu.main(list(map(str, command))) == 0
    table = pd.read_csv(path)
    assert list(table.columns) == ["epochs", "multiplier", "test_accuracy", "forget_accuracy"]
    assert {100, 120, 145, 200} <= set(table.epochs)
    assert len(table) == table.epochs.nunique() * table.multiplier.nunique()


def test_quiet(tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert mu.main([*QUICK, "--quiet"]) == 0
    assert capfd.readouterr() == ("", "")
    assert len(list((tmp_path / "output").iterdir())) == 4


def test_help_shows_every_setting_and_default(capsys):
    assert mu.main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for flag in ["--seed", "--learning-rate", "--unlearn-epochs", "--csv", "--quiet"]:
        assert flag in text
    for words in ["default 42", "default 500, basic 1000", "default 80, basic 160", "default 0.7"]:
        assert words in text
    assert text.isascii()


def test_version(capsys):
    assert mu.main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"machine_unlearning.py {mu.__version__}"


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["--seed", "-1"], "--seed"),
        (["--seed", "x"], "--seed"),
        (["--epochs", "-5"], "--epochs"),
        (["--epochs", "1.5"], "--epochs"),
        (["--patients", "-500"], "--patients"),
        (["--patients", "five"], "--patients"),
        (["--dpi", "-1"], "--dpi"),
        (["--dpi", "many"], "--dpi"),
        (["--hidden", "0"], "--hidden"),
        (["--unlearn-epochs", "-1"], "--unlearn-epochs"),
        (["--multiplier", "nan"], "--multiplier"),
        (["--multiplier", "inf"], "--multiplier"),
        (["--learning-rate", "nan"], "--learning-rate"),
        (["--learning-rate", "inf"], "--learning-rate"),
        (["--forget", "0"], "--forget"),
        (["--forget", "401"], "--forget"),
        (["--forget", "400"], "--forget"),
        (["--patients", "60"], "--forget"),
        (["cook"], "'cook'"),
        (["demo", "--see", "1"], "--see"),
        (["--sed", "3"], "--sed"),
    ],
)
def test_usage_errors(tmp_path, capsys, monkeypatch, arguments, flag):
    monkeypatch.chdir(tmp_path)
    assert mu.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert one_line(err)
    assert flag in err
    if flag == "--forget":
        assert "the allowed range is 1 to " in err
    assert not list(tmp_path.rglob("*.png"))


@pytest.mark.parametrize(
    "where", [("--output", "taken"), ("--output", "taken/below"), ("--csv", "taken/table.csv")]
)
def test_a_file_stands_where_a_folder_should(tmp_path, where, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("mine")
    assert mu.main([*QUICK, *where]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert one_line(err)
    assert "taken" in err
    assert (tmp_path / "taken").read_text() == "mine"


def test_csv_is_a_folder(tmp_path):
    done = run(*QUICK, "--csv", ".", cwd=tmp_path)
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "folder" in done.stderr
    assert not list(tmp_path.rglob("*.png"))  # said before the work, not after


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_output_is_not_writable(tmp_path):
    tmp_path.chmod(0o500)
    done = run(*QUICK, "--output", "here", cwd=tmp_path)
    tmp_path.chmod(0o700)
    assert done.returncode == 1
    assert one_line(done.stderr)


@pytest.mark.skipif(
    not os.path.isdir("/proc/self"), reason="needs a folder that nobody can write to"
)
def test_a_folder_without_room_is_said_before_the_work(capfd, monkeypatch):
    monkeypatch.setitem(mu.EXPERIMENTS, "demo", (lambda *_: pytest.fail("it has begun"), {}))
    assert mu.main(["--output", "/proc"]) == 1
    assert one_line(capfd.readouterr().err)


def test_a_console_without_the_letters_of_a_folder(tmp_path):
    folder = tmp_path / "caf\u00e9"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    done = run(*QUICK, "--output", folder, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "wrote " in done.stdout
    assert len(list(folder.iterdir())) == 4


@pytest.mark.skipif(os.name == "nt", reason="needs resource limits")
def test_a_full_disk_leaves_the_old_files(tmp_path):
    """No file may grow beyond 4 KB: every figure fails half-written, as on a full disk."""
    old = tmp_path / "output" / DEMO[0]
    old.parent.mkdir()
    for name in DEMO:
        (old.parent / name).write_bytes(b"old")

    def limit():
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    done = run("--dpi", "60", cwd=tmp_path, preexec_fn=limit)
    assert done.returncode == 1
    assert one_line(done.stderr)
    assert "output" in done.stderr
    assert {path.name: path.read_bytes() for path in old.parent.iterdir()} == dict.fromkeys(
        DEMO, b"old"
    )


def test_a_figure_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def half(beside):
        beside.write_bytes(b"ha")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mu.write(path, half)
    assert [p.name for p in tmp_path.iterdir()] == ["figure.png"]
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_device_is_not_replaced(tmp_path):
    pipe, saved = tmp_path / "pipe", []
    os.mkfifo(pipe)
    mu.write(pipe, saved.append)  # as /dev/stdout or /dev/null would be
    assert saved == [pipe.resolve()]
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_run_that_is_killed_leaves_whole_files_only(tmp_path):
    output = tmp_path / "output"
    process = subprocess.Popen(
        [sys.executable, "-B", SCRIPT], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not list(output.glob("*.png")):
        time.sleep(0.005)
    time.sleep(0.05)  # into the next figure
    process.kill()
    process.wait()
    for path in output.glob("*.png"):
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_is_one_line(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-B", SCRIPT, "--epochs", "1000000"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (tmp_path / "output").exists():  # it has begun
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert (out, err) == ("", "machine_unlearning.py: error: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="POSIX pipes")
def test_a_closed_pipe_is_no_traceback(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-B", SCRIPT, *QUICK],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=60)
    assert err == ""
    assert len(list((tmp_path / "output").iterdir())) == 4


def test_two_runs_at_once_both_finish(tmp_path):
    both = [
        subprocess.Popen([sys.executable, "-B", SCRIPT, *QUICK, "--quiet"], cwd=tmp_path)
        for _ in range(2)
    ]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "output").iterdir()) == DEMO


def test_no_display_no_home_and_an_ascii_console(tmp_path):
    environment = {
        "PATH": os.environ["PATH"],
        "MPLBACKEND": "TkAgg",  # asked for, and no screen is there
        "HOME": str(tmp_path / "missing"),
        "MPLCONFIGDIR": str(tmp_path / "config"),
        "PYTHONIOENCODING": "cp1252",
        "SYSTEMROOT": os.environ.get("SYSTEMROOT", ""),
    }
    done = run(*QUICK, cwd=tmp_path, env=environment)
    assert (
        done.returncode,
        done.stderr.replace("Matplotlib is building the font cache; this may take a moment.\n", ""),
    ) == (0, "")


def test_the_same_command_makes_the_same_files(tmp_path):
    """All but the one figure that draws times; and so the committed ones are the script's."""
    for folder in ("one", "two"):
        assert mu.main(["--output", str(tmp_path / folder), "--quiet", "--dpi", "40"]) == 0
    for name in DEMO:
        one, two = ((tmp_path / folder / name).read_bytes() for folder in ("one", "two"))
        assert (one == two) or name == "performance_metrics.png"


def test_a_notebook_gets_the_status_and_no_exit(tmp_path):
    assert mu.main([*QUICK, "--output", str(tmp_path), "--quiet"]) == 0
    assert mu.main(["--seed", "minus one"]) == 2
