"""What a command writes is what the reader reads, and it writes over nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugin.config.document import read
from plugin.config.writing import Kept, configuration_text, kept_in, replace_files, secrets_text, write_new

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")) | st.sampled_from("\t\n\r"), max_size=40)
NAME = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)


@given(text=TEXT, secret=TEXT, name=NAME, number=st.integers(0, 10**9))
@settings(max_examples=100, deadline=None)
def test_every_text_comes_back(
    tmp_path_factory: pytest.TempPathFactory, text: str, secret: str, name: str, number: int
) -> None:
    folder = tmp_path_factory.mktemp("written")
    data = {"a": [text, {"b": number, "password": Kept(name=name, text=secret)}], "c": True}
    secrets = kept_in(data)
    assert secrets == {name: secret}
    write_new(
        folder, {"f.yaml": configuration_text(data, comments={"": "x"}), "secrets.yaml": secrets_text(secrets)}
    )
    document = read(folder / "f.yaml", {})
    assert document.faults == []
    assert document.data == {"a": [text, {"b": number, "password": secret}], "c": True}


def test_comments_stand_above_their_sections() -> None:
    written = configuration_text({"a": 1, "b": [2]}, comments={"": "head", "b": "two\n\nlines"})
    assert written == "# head\n\na: 1\n\n# two\n#\n# lines\nb:\n- 2\n"


def test_nothing_is_overwritten_and_nothing_half_written_stays(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    with pytest.raises(FileExistsError) as caught:
        write_new(tmp_path, {"a": "x", "b": "y"})
    assert caught.value.filename == str(tmp_path / "b")
    assert {one.name: one.read_text() for one in tmp_path.iterdir()} == {"b": "mine"}


@pytest.mark.parametrize("write", [write_new, replace_files])
def test_only_the_owner_may_read_it(tmp_path: Path, write: object) -> None:
    assert callable(write)
    (file,) = write(tmp_path / "new", {"a": "x"})
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("x", 0o600)


def test_what_replaces_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "a").chmod(0o644)
    (tmp_path / ".a.new").write_text("left by a crash")
    replace_files(tmp_path, {"a": "new"})
    assert [one.name for one in tmp_path.iterdir()] == ["a"]
    assert ((tmp_path / "a").read_text(), (tmp_path / "a").stat().st_mode & 0o777) == ("new", 0o600)
    assert "secret" not in repr(Kept(name="n", text="secret"))
