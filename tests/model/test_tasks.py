import json
from pathlib import Path

import pytest

from glossator.model.errors import UsageError
from glossator.model.tasks import Task, load_tasks, parse_task, select_tasks

MOOD = Task("mood", "single", ("bad", "good"))
AGE = Task("age", "regression", sensitive=True)


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[tasks.mood]\nlabels = ['a', 'b']", "has no kind"),
        ("[tasks.mood]\nkind = 'double'\nlabels = ['a', 'b']", "'double' is not one of"),
        ("[tasks.mood]\nkind = 'single'\nlabels = ['a']", "too few"),
        ("[tasks.mood]\nkind = 'single'\nlabels = ['a', 'a']", "are the same label"),
        ("[tasks.mood]\nkind = 'single'\nlabels = ['Yes', 'no', 'yes']", "'Yes' and 'yes' are the"),
        (
            "[tasks.mood]\nkind = 'single'\nlabels = ['ok', \"o\\u202ek\"]",
            r"'o.u202ek' is no printable",
        ),
        (
            "[tasks.mood]\nkind = 'single'\nlabels = ['ok', \"a\\nb\"]",
            r"'a\\nb' is no printable text",
        ),
        ("[tasks.mood]\nkind = 'single'\nlabels = ['ok', ' no']", "' no' is no printable text"),
        ("[tasks.mood]\nkind = 'single'\nlabels = ['ok', '']", "'' has not between 1 and 128"),
        (f"[tasks.mood]\nkind = 'single'\nlabels = ['ok', '{'x' * 200}']", "not between 1 and 128"),
        (f"[tasks.mood]\nkind = 'single'\nlabels = {[*map(str, range(1001))]}", "1,001 labels are"),
        ("[tasks.mood]\nkind = 'single'\nlabels = ['a', 1]", "label 1 is no printable text"),
        ("[tasks.mood]\nkind = ['single']\nlabels = ['a', 'b']", "is not one of"),
        (
            "[tasks.mood]\nkind = 'regression'\nsensitive = 'false'",
            "sensitive 'false' is not true or",
        ),
        ("[tasks.mood]\nkind = 'regression'\ntarget_precision = nan", "not in"),
        ("[tasks.mood]\nkind = 'regression'\nlimits = 3", "limits are no text"),
        ("[tasks.Stage]\nkind = 'regression'", "the output has a column of that name"),
        ("[tasks.source_row]\nkind = 'regression'", "the output has a column of that name"),
        (f"[tasks.{'m' * 65}]\nkind = 'regression'", "at most 64 characters"),
        ("[tasks.mood]\nkind = 'regression'\n[tasks.Mood]\nkind = 'regression'", "'Mood' have the"),
        ("".join(f"[tasks.t{i}]\nkind = 'regression'\n" for i in range(65)), "65 tasks are not"),
        ("[tasks.mood]\nkind = 'single'\nlabels = 'ab'", "list of strings"),
        ("[tasks.mood]\nkind = 'regression'\nlabels = ['a']", "has no labels"),
        ("[tasks.mood]\nkind = 'regression'\ncolour = 1", "unknown key 'colour'"),
        ("[tasks.mood]\nkind = 'regression'\ntarget_precision = 'high'", "'high' is not in"),
        ("[tasks.mood]\nkind = 'regression'\ntarget_precision = 2", "not in"),
        ("[tasks]\nmood = 3", "is no table"),
        ("[tasks.t]\nkind = 'multi'\nlabels = ['a']\nbalanced = 'no'", "balanced 'no' is not true"),
        ("[tasks.mood]\nkind = 'regression'\nbalanced = true", "balanced is about labels"),
        ("[tasks.mood]\nkind = 'regression'\nweight = 0", "weight 0 is not between 0.001 and 1000"),
        ("[tasks.mood]\nkind = 'regression'\nweight = nan", "weight nan is not between"),
        ("[tasks.mood]\nkind = 'regression'\nweight = true", "weight True is not between"),
        ("[tasks.mood]\nkind = 'regression'\ncolumn = 3", "column 3 is no text"),
        ("[tasks.mood]\nkind = 'regression'\nseparator = ','", "a row has one label: remove sep"),
        ("[tasks.t]\nkind = 'multi'\ncolumns = ['a']", "columns must be a table, LABEL = COLUMN"),
        ("[tasks.t]\nkind = 'multi'\ncolumns = {a = 1}", "1 is no column's name"),
        (
            "[tasks.t]\nkind = 'multi'\nlabels = ['a', 'b']\ncolumns = {a = 'x'}",
            r"columns are of .'a'., its labels are .'a', 'b'.: give a column for each label",
        ),
        (
            "[tasks.t]\nkind = 'multi'\ncolumns = {a = 'x'}\nseparator = ','",
            "columns stand beside neither column nor separator",
        ),
        ("[tasks.'a b']\nkind = 'regression'", "letters, digits"),
        ("[task.mood]\nkind = 'regression'", "unknown table 'task'"),
        ("", "no tasks"),
        ("[tasks", "is not TOML"),
    ],
)
def test_what_is_wrong_with_a_tasks_file_is_said(toml: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.toml").write_text(toml)
    with pytest.raises(UsageError, match=said) as caught:
        load_tasks(tmp_path / "tasks.toml")
    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).isprintable()


def test_a_missing_tasks_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml"):
        load_tasks(tmp_path / "none.toml")


def test_sensitive_tasks_are_selected_only_by_name() -> None:
    assert select_tasks([AGE, MOOD], None) == (MOOD,)
    assert select_tasks([AGE, MOOD], ["mood", "age"]) == (AGE, MOOD)
    for names, said in ((["mod"], "unknown task 'mod'"), ([], "no task was named")):
        with pytest.raises(UsageError, match=said):
            select_tasks([AGE, MOOD], names)
    with pytest.raises(UsageError, match="every task is sensitive"):
        select_tasks([AGE], None)


def test_a_task_says_where_its_labels_are(tmp_path: Path) -> None:
    (tmp_path / "tasks.toml").write_text(
        "[tasks.mood]\nkind = 'single'\nlabels = ['bad', 'good']\ncolumn = 'user-mood'\n"
        "[tasks.topics]\nkind = 'multi'\nlabels = ['a', 'b']\ncolumns = {b = 'is_b', a = 'is_a'}\n"
        "[tasks.themes]\nkind = 'multi'\ncolumns = {price = 'p', taste = 't'}\n"
        "[tasks.tags]\nkind = 'multi'\nlabels = ['a', 'b']\nseparator = ';'\nbalanced = true\n"
        "weight = 0.5\n"
    )
    tasks = load_tasks(tmp_path / "tasks.toml")
    assert {task.name: task.label_columns for task in tasks} == {
        "mood": ("user-mood",),
        "topics": ("is_a", "is_b"),
        "themes": ("p", "t"),
        "tags": ("tags",),
    }
    assert tasks[2].labels == ("price", "taste")
    for task in tasks:
        assert parse_task(task.name, json.loads(json.dumps(task.to_json())), "a bundle") == task
    assert set(MOOD.to_json()) == {"kind", "labels", "sensitive", "target_precision", "limits"}
