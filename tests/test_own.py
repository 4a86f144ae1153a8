"""Your own CSV file: what is read, what is named, who asks, and what comes out."""

import os
from io import BytesIO, StringIO

import numpy as np
import pandas as pd
import pytest
from conftest import assert_page, own_table
from numpy.testing import assert_array_equal

import machine_unlearning as mu

TABLE = own_table()
TWO = "age,blood sugar"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The test runs in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cohort_of(text, encoding="utf-8", features=TWO, label="outcome", asked=""):
    """The cohort of a file with this text."""
    with open("my.csv", "w", encoding=encoding, newline="") as file:
        file.write(text)
    table = mu.read_table("my.csv")
    return mu.own_cohort(table, label, features, asked)


# ---- Files of many shapes -----------------------------------------------------------------------

PLAIN = TABLE.to_csv(index=False)
SHAPES = {  # name -> (text, encoding)
    "commas": (PLAIN, "utf-8"),
    "semicolons": (TABLE.to_csv(index=False, sep=";"), "utf-8"),
    "tabs": (TABLE.to_csv(index=False, sep="\t"), "utf-8"),
    "BOM": (TABLE.to_csv(index=False, sep=";"), "utf-8-sig"),
    "Windows": (PLAIN.replace("\n", "\r\n"), "utf-8"),
    "old Mac": (PLAIN.replace("\n", "\r"), "utf-8"),
    "blanks after commas": (PLAIN.replace(",", ", "), "utf-8"),
    "a separator named by Excel": ("sep=;\n" + TABLE.to_csv(index=False, sep=";"), "utf-8"),
    "quotes": (TABLE.to_csv(index=False, quoting=1), "utf-8"),
    "row numbers": (TABLE.to_csv(), "utf-8"),
    "a comma at the end": (PLAIN.replace("\n", ",\n"), "utf-8"),
    "a comma at the end of rows": (PLAIN.replace("\n", ",\n").replace(",\n", "\n", 1), "utf-8"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_file_of_any_shape_gives_the_same_cohort(here, shape):
    text, encoding = SHAPES[shape]
    cohort = cohort_of(text, encoding)
    assert_array_equal(cohort.features, TABLE[["age", "blood sugar"]])
    assert list(cohort.features.columns) == ["age", "blood sugar"]
    assert_array_equal(cohort.y, TABLE.outcome)
    assert cohort.classes == ("0 (outcome)", "1 (outcome)")
    assert cohort.asks is None


LABELS = {  # what stands for 0 and for 1 -> the names of the classes
    ("No", "Yes"): ("No", "Yes"),
    ("b", "C"): ("b", "C"),  # in the alphabet, not by codes of letters
    ("<=50K", ">50K"): ("<=50K", ">50K"),
    (" benign", "malignant "): ("benign", "malignant"),
    ("None", "Type 2"): ("None", "Type 2"),
    ("gesund", "krank, sehr"): ("gesund", "krank, sehr"),
    (1, 2): ("1 (outcome)", "2 (outcome)"),
    (-1, 1): ("-1 (outcome)", "1 (outcome)"),
    (9, 10): ("9 (outcome)", "10 (outcome)"),  # by size, not in the alphabet
    (0.5, 1.5): ("0.5 (outcome)", "1.5 (outcome)"),
    (False, True): ("False (outcome)", "True (outcome)"),
}


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("n_missing", [0, 1])
def test_the_larger_number_or_the_later_word_is_class_1(here, label, n_missing):
    label_0, label_1 = label
    words = TABLE.outcome.map({0: label_0, 1: label_1}).astype(object)
    words.iloc[:n_missing] = None
    cohort = cohort_of(TABLE.assign(outcome=words).to_csv(index=False))
    assert cohort.classes == LABELS[label]
    assert_array_equal(cohort.y, TABLE.outcome.iloc[n_missing:])


@pytest.mark.parametrize("missing", ["?", " ?", "", " ", "NA", "NaN", "null"])
def test_rows_with_missing_values_are_left_out(here, missing):
    table = TABLE.astype(object)
    table.loc[3, "age"] = missing
    table.loc[5, "blood sugar"] = missing
    table.loc[7, "outcome"] = missing
    table.loc[9, "clinic"] = missing  # not used
    cohort = cohort_of(table.to_csv(index=False))
    expected = TABLE.drop(index=[3, 5, 7])
    assert_array_equal(cohort.features, expected[["age", "blood sugar"]])
    assert_array_equal(cohort.y, expected.outcome)


def test_which_columns_are_features(here):
    chosen = cohort_of(PLAIN, features=" blood sugar , age,clinic")
    assert list(chosen.features.columns) == ["blood sugar", "age", "clinic"]
    assert chosen.features.equals(cohort_of(PLAIN, features=list(chosen.features)).features)
    row_numbers = TABLE.drop(columns="clinic").to_csv()  # have no name, and are no data
    assert list(cohort_of(row_numbers, features="").features.columns) == ["age", "blood sugar"]
    words = TABLE.assign(patient=[f"MRN-2024-{number:07d}" for number in range(len(TABLE))])
    words["visit"] = "2024-01-31"
    text = words.drop(columns="clinic").to_csv(index=False)
    assert list(cohort_of(text, features="").features.columns) == ["age", "blood sugar"]
    flags = TABLE.assign(clinic=TABLE.clinic == 1).to_csv(index=False)
    assert_array_equal(cohort_of(flags, features="clinic").features.clinic, TABLE.clinic == 1)


def test_umlauts_and_blanks_in_names(here):
    names = {"age": "Größe (cm)", "blood sugar": " class ", "outcome": "krank?"}
    text = TABLE.rename(columns=names).to_csv(index=False)
    asked = "`Größe (cm)` > 60 and `class` > 0"
    cohort = cohort_of(text, features="Größe (cm),class", label="krank?", asked=asked)
    assert list(cohort.features.columns) == ["Größe (cm)", "class"]
    assert_array_equal(cohort.asks, TABLE.age > 60)


# ---- Who asks -----------------------------------------------------------------------------------


def test_a_query_on_any_column_says_who_asks(here):
    table = TABLE.astype(object)
    table.loc[4, "age"] = "?"
    cohort = cohort_of(table.to_csv(index=False), asked="clinic == 3")
    assert_array_equal(cohort.asks, TABLE.drop(index=4).clinic == 3)
    words = TABLE.assign(clinic=TABLE.clinic.map("clinic {}".format))
    cohort = cohort_of(
        words.to_csv(index=False), asked="clinic == 'clinic 3' or `blood sugar` < 80"
    )
    assert_array_equal(cohort.asks, (TABLE.clinic == 3) | (TABLE["blood sugar"] < 80))


def test_all_who_ask_are_trained_on_and_forgotten():
    cohort = mu.own_cohort(TABLE, "outcome", TWO, "clinic == 3")
    data = mu.split_around(cohort, mu.Settings(), np.random.RandomState(0))
    asked = TABLE[TABLE.clinic == 3]
    forgotten = data.features.iloc[data.asked].sort_index()
    assert_array_equal(forgotten, asked[["age", "blood sugar"]])
    assert len(data.test.y) == len(TABLE) // 5


# ---- What does not fit is named -----------------------------------------------------------------

RAGGED = "age,blood sugar,outcome\n36,6,100,1\n37,2,110,0\n"  # decimal commas between commas
FAULTS = [  # text or changed columns, features, label, asked, words of the message
    ("", TWO, "outcome", "", ["--data my.csv"]),
    ("hello\nworld\n", TWO, "outcome", "", ["--data my.csv", "two columns", "hello"]),
    ("# of today\n" + PLAIN, TWO, "outcome", "", ["--data my.csv", "two columns", "# of today"]),
    ("# of May, 2024\n" + PLAIN, TWO, "outcome", "", ["--data my.csv", "no header"]),
    ("sep=\n" + PLAIN, TWO, "outcome", "", ["--data my.csv", "two columns", "sep="]),
    (RAGGED, "", "outcome", "", ["--data my.csv", "decimal commas"]),
    (PLAIN + "1,2,3,4,5\n", TWO, "outcome", "", ["--data my.csv", f"line {len(TABLE) + 2}"]),
    (PLAIN[:100], TWO, "outcome", "", ["--data", "10 are needed"]),
    (PLAIN, TWO, "result", "", ["--label result", "age, blood sugar, clinic, outcome"]),
    (PLAIN, "age,glucose", "outcome", "", ["--features glucose", "age, blood sugar, clinic"]),
    (PLAIN, "age,outcome", "outcome", "", ["--features outcome", "label"]),
    (PLAIN, "", "outcome", "", ["--features", "age, blood sugar, clinic"]),
    ({"age": "36,6"}, TWO, "outcome", "", ["--features", "in age", "36,6", "point"]),
    ({"age": "36,6"}, "", "outcome", "", ["--features", "in age", "36,6", "point"]),
    ({"age": "2024-01-31"}, TWO, "outcome", "", ["--features", "in age", "dates"]),
    ({"age": 7}, TWO, "outcome", "", ["--features", "age is 7"]),
    ({"age": np.inf}, TWO, "outcome", "", ["--features", "infinite values in age"]),
    ({"age": "?"}, TWO, "outcome", "", ["--data", "0 rows"]),
    ({"outcome": "ill"}, TWO, "outcome", "", ["--label outcome", "two values", "has 1: ill"]),
    (PLAIN, TWO, "clinic", "", ["--label clinic", "two values", "has 4: 0, 1, 2, 3"]),
    (PLAIN, "clinic", "age", "", ["--label age", "two values", ", ..."]),
    (PLAIN, TWO, "outcome", "clinic == 9", ["--asked clinic == 9", "no row", "clinic is 2"]),
    (PLAIN, TWO, "outcome", "outcome == 1", ["ask to be forgotten", "both classes"]),
    (PLAIN, TWO, "outcome", "age > 0", ["--asked", "120 of 120 rows ask"]),
    (PLAIN, TWO, "outcome", "clinic = 3", ["--asked clinic = 3", "true or false"]),
    (PLAIN, TWO, "outcome", "clinic", ["--asked clinic", "true or false"]),
    (PLAIN, TWO, "outcome", "hospital == 3", ["--asked hospital == 3", "'hospital'"]),
    (PLAIN, TWO, "outcome", "blood sugar > 3", ["--asked blood sugar > 3", "`blood sugar`"]),
    ({"clinic": "3A"}, TWO, "outcome", "clinic == 3", ["--asked", "no row", "clinic is '3A'"]),
    (PLAIN, TWO, "outcome", "clinic > 0 or age > 50", ["--asked", "rows ask", "test set"]),
    (PLAIN, TWO, "outcome", "clinic ==", ["--asked clinic ==", "not understood"]),
    (PLAIN, TWO, "outcome", "clinic == Anna", ["--asked", "'Anna'", '"Anna"']),
    ({"clinic": "3,5"}, TWO, "outcome", "clinic > 3", ["--asked", "in clinic", "point: 3,5"]),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_named_in_one_line(here, capsys, fault):
    content, features, label, asked, words = fault
    if isinstance(content, dict):
        content = TABLE.assign(**content).to_csv(index=False)
    (here / "my.csv").write_text(content)
    command = ["own", "--data", "my.csv", "--label", label, "--features", features]
    assert mu.main([*command, "--asked", asked]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err
    assert not list(here.rglob("*.png"))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_other_encodings_are_named(here, capsys, encoding):
    (here / "my.csv").write_text(PLAIN.replace("age", "größe"), encoding=encoding)
    assert mu.main(["own", "--data", "my.csv", "--label", "outcome"]) == 2
    assert "my.csv: not in UTF-8" in capsys.readouterr().err


def test_a_missing_file_a_folder_and_missing_flags(here, capsys):
    plain = [("--data nowhere.csv --label outcome", 1, "nowhere.csv: No such file")]
    plain.append(("--data . --label outcome", 1, ".: Is a directory"))
    plain.append(("--label outcome", 2, "--data is needed"))
    plain.append(("--data my.csv", 2, "--label is needed"))
    plain.append(("--data my.csv --label outcome --forget 5 --asked age>9", 2, "give one of them"))
    for flags, status, words in plain:
        assert mu.main(["own", *flags.split()]) == status
        assert words in capsys.readouterr().err


# ---- The whole experiment -----------------------------------------------------------------------


def page_of(capsys, *flags):
    """What `own` prints about my.csv; quick."""
    command = ["own", "--data", "my.csv", "--label", "outcome", "--epochs", "20", "--dpi", "20"]
    assert mu.main([*command, *flags]) == 0
    page = capsys.readouterr().out.partition("\nwrote ")[0]
    assert_page(page)
    return " ".join(page.split())


def test_the_page_says_what_was_read_and_who_asked(here, capsys):
    table = TABLE.astype(object)
    table.loc[[1, 2], "age"] = "?"
    table.to_csv("my.csv", index=False)
    page = page_of(capsys, "--features", TWO)
    n_ill = TABLE.drop(index=[1, 2]).outcome.sum()
    assert "my.csv: 120 rows read, 2 left out" in page
    assert "Features: age, blood sugar." in page
    assert "A map" not in page
    assert f"Class 0 is 0 (outcome), {118 - n_ill} rows" in page
    assert f"class 1 is 1 (outcome), {n_ill} rows" in page
    assert "18 of the 94 training rows ask to be forgotten, drawn at random" in page  # a fifth
    names = sorted(path.name for path in here.glob("output/*"))
    assert names == ["own_decision_boundaries.png", "own_performance_metrics.png"]

    page = page_of(capsys, "--features", TWO, "--forget", "7")
    assert "7 of the 94 training rows ask" in page

    n_asked = (TABLE.drop(index=[1, 2]).clinic == 3).sum()
    page = page_of(capsys, "--features", TWO, "--asked", "clinic == 3")
    assert f"{n_asked} of the 94 training rows ask to be forgotten: those where clinic == 3" in page


@pytest.mark.parametrize("features", ["age", "age,blood sugar,clinic"])
def test_a_map_is_drawn_of_two_features_only(here, capsys, features):
    TABLE.to_csv("my.csv", index=False)
    assert "A map needs two features, so none is drawn." in page_of(capsys, "--features", features)
    assert [path.name for path in here.glob("output/*")] == ["own_performance_metrics.png"]


def test_few_rows_rare_classes_and_many_columns(here, capsys):
    TABLE.head(20).to_csv("my.csv", index=False)
    assert "3 of the 16 training rows ask" in page_of(capsys, "--features", TWO)

    rare = own_table(n=510)
    rare.outcome = [1] * 10 + [0] * 500
    rare.to_csv("my.csv", index=False)
    assert "class 1 is 1 (outcome), 10 rows" in page_of(capsys, "--features", TWO)

    eight = pd.DataFrame(np.random.RandomState(0).randn(60, 8)).add_prefix("a long name, number ")
    eight.columns = eight.columns.str.replace(",", "")
    eight["outcome"] = TABLE.outcome.map("discharged after treatment no. {}".format)
    eight.to_csv("my.csv", index=False)
    page = page_of(capsys, "--features", ",".join(eight.columns[:8]))
    assert "a long name number 7." in page
    assert "Class 0 is discharged after treatment no. 0" in page
    assert "class 1 is discharged after treatment no. 1" in page


def test_a_notebook_finds_the_same(here, capsys):
    TABLE.to_csv("my.csv", index=False)
    settings = mu.settings_for("own", data="my.csv", label="outcome", features=TWO, forget=19)
    table = mu.own(settings).table.drop(columns="seconds")
    cohort = mu.own_cohort(mu.read_table("my.csv"), "outcome", TWO)
    comparison = mu.compare(cohort, mu.Settings(forget=19))
    pd.testing.assert_frame_equal(comparison.results.drop(columns="seconds"), table)
    default = mu.settings_for("own", data="my.csv", label="outcome", features=TWO)
    pd.testing.assert_frame_equal(mu.own(default).table.drop(columns="seconds"), table)  # a fifth


def test_two_columns_of_one_name_are_refused(here):
    text = "age,age ,outcome\n" + "\n".join(f"{k},{k},{k % 2}" for k in range(30))
    with pytest.raises(mu.SettingsError, match="two columns are named age"):
        cohort_of(text, features="age")


def test_an_id_is_no_feature_and_a_column_is_named_once():
    table = mu.pd.DataFrame({"id": range(100, 140), "age": [30.5 + k % 7 for k in range(40)]})
    table["outcome"] = [k % 2 for k in range(40)]
    with pytest.raises(mu.SettingsError, match=r"--features.*id, age"):
        mu.own_cohort(table, "outcome")
    with pytest.raises(mu.SettingsError, match="named twice"):
        mu.own_cohort(table, "outcome", "age,age")
    assert list(mu.own_cohort(table, "outcome", "id,age").features.columns) == ["id", "age"]


def test_rows_of_which_it_is_missing_whether_they_ask_are_left_out():
    table = TABLE.astype({"clinic": object})
    table.loc[[2, 5], "clinic"] = None
    table["Tom's age"] = table.age.where(table.index > 0)  # missing in one row
    for query, n_missing in [
        ("clinic == 3", 2),
        ("clinic != 3", 2),
        ('clinic == 3 or clinic == "Tom\'s age"', 2),  # text in quotes names no column
        ("`Tom's age` > 40", 1),
    ]:
        cohort = mu.own_cohort(table, "outcome", TWO, query)
        assert len(cohort.y) == len(TABLE) - n_missing
    assert "Tom's age" in mu.columns_in("`Tom's age` > 40 and `Tom's age` < 60", table)


def test_a_query_cannot_reorder_rows_or_reach_our_own_names():
    for query in ("age.sort_values() > 60", "age.head(20) > 50", "outcome == @y"):
        with pytest.raises(mu.SettingsError, match="--asked"):
            mu.own_cohort(TABLE, "outcome", TWO, query)


def test_values_whose_variance_would_overflow_are_named():
    table = TABLE.assign(age=TABLE.age * 1e155)
    with pytest.raises(mu.SettingsError, match="values beyond 1e100 in age"):
        mu.own_cohort(table, "outcome", TWO)


def test_columns_named_by_numbers():
    table = TABLE[["age", "blood sugar", "outcome"]].set_axis([0, 1, "outcome"], axis=1)
    assert len(mu.own_cohort(table, "outcome", [0, 1]).y) == len(TABLE)


def test_the_users_own_file_is_not_overwritten(tmp_path, capsys):
    file = tmp_path / "mine.csv"
    TABLE.to_csv(file, index=False)
    before = file.read_bytes()
    command = ["own", "--data", file, "--label", "outcome", "--csv", file, "--output", tmp_path]
    assert mu.main([str(word) for word in command]) == 2
    assert "--csv" in capsys.readouterr().err
    assert file.read_bytes() == before


@pytest.mark.parametrize("change", ["none", "a blank", "a repeat", "a word"])
def test_a_blank_or_a_repeat_does_not_make_an_id_a_feature(here, change):
    table = TABLE[["age", "outcome"]].assign(id=range(1000, 1000 + len(TABLE))).astype(object)
    if change == "a blank":
        table.loc[3, "id"] = ""
    if change == "a repeat":
        table.loc[3, "id"] = 1000
    if change == "a word":
        table.loc[3, "id"] = "lost"
    words = "id this is not a number: lost" if change == "a word" else "id looks like an id"
    with pytest.raises(mu.SettingsError, match=words):
        cohort_of(table.to_csv(index=False), features="")


@pytest.mark.parametrize("missing", ["-", ".", "n/a", "na", "None", "unknown", " Unknown"])
def test_marks_of_missing_numbers(here, missing):
    table = TABLE.drop(columns="clinic").astype(object)
    table.loc[[3, 5], "age"] = missing
    cohort = cohort_of(table.to_csv(index=False), features="")
    assert_array_equal(cohort.features, TABLE[["age", "blood sugar"]].drop(index=[3, 5]))


def test_in_a_column_of_words_such_a_mark_is_a_class(here):
    words = TABLE.assign(outcome=TABLE.outcome.map({0: "-", 1: "unknown"}))
    assert cohort_of(words.to_csv(index=False)).classes == ("-", "unknown")


@pytest.mark.parametrize("others", ["", "40", "40.5"])
def test_a_column_that_is_not_quite_one_of_numbers_is_named(here, others):
    for word, reason in [("36,6", "a comma should be a point: 36,6"), ("old", "number: old")]:
        table = TABLE.astype(object)
        table.loc[3:, "age"] = "38,1" if word == "36,6" else 38
        table.loc[0, "age"] = word
        table.loc[1:20, "age"] = others
        for features in ("", TWO):
            with pytest.raises(mu.SettingsError, match=f"in age .*{reason}"):
                cohort_of(table.to_csv(index=False), features=features)


def test_a_hint_is_not_taken_from_a_row_that_is_left_out():
    table = TABLE.assign(name="Ann", age=TABLE.age.astype(str).astype(object))
    table.loc[0, ["age", "outcome"]] = ["old", None]
    with pytest.raises(mu.SettingsError, match=r"numbers in name$"):
        mu.own_cohort(table, "outcome", "age,name")


def test_a_file_may_be_open_or_a_pipe(here):
    expected = cohort_of(PLAIN)
    for source in (StringIO(PLAIN), BytesIO(PLAIN.encode("utf-8-sig"))):
        cohort = mu.own_cohort(mu.read_table(source), "outcome", TWO)
        assert cohort.features.equals(expected.features)

    reader, writer = os.pipe()
    os.write(writer, PLAIN.encode())
    os.close(writer)
    table = mu.read_table(f"/dev/fd/{reader}")
    os.close(reader)
    assert mu.own_cohort(table, "outcome", TWO).features.equals(expected.features)


def test_blanks_around_names_do_not_matter():
    table = TABLE.rename(columns={"outcome": " outcome", "age": "age "})
    cohort = mu.own_cohort(table, "outcome ", np.array([" age", "blood sugar"]))
    assert list(cohort.features.columns) == ["age", "blood sugar"]


def test_nullable_types_and_none():
    table = TABLE.convert_dtypes()
    cohort = mu.own_cohort(table, "outcome", TWO, "clinic == 3")
    assert_array_equal(cohort.asks, TABLE.clinic == 3)
    two = table.drop(columns="clinic")
    cohort = mu.own_cohort(two, "outcome", asked=None)
    assert list(cohort.features.columns) == ["age", "blood sugar"]
    assert cohort.asks is None


def test_a_table_is_not_written_in_place_of_a_figure(here, capsys):
    assert mu.main(["--csv", "output/performance_metrics.png"]) == 2
    assert "--csv" in capsys.readouterr().err
    assert not list(here.glob("output/*"))
