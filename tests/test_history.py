"""A history: one table of what happened in a training, at which step."""

import pytest
from conftest import one_sentence

from cartpole_lessons.errors import MissingDependency
from cartpole_lessons.history import History


@pytest.fixture
def history():
    return History([9.0, 12.5], [8, 20], [(20, 11.0)], metrics={"loss": [(8, 0.25), (20, -1e-9)], "entropy": [(8, 0.5)]})


def test_it_is_written_as_one_table(history, tmp_path):
    text = history.to_csv(tmp_path / "new" / "history.csv")
    assert text.splitlines() == [
        "name,env_step,value",
        "episode_return,8,9.0",
        "episode_return,20,12.5",
        "evaluation,20,11.0",
        "loss,8,0.25",
        "loss,20,-1e-09",
        "entropy,8,0.5",
    ]
    assert (tmp_path / "new" / "history.csv").read_bytes() == text.encode()
    assert (history.losses, History().losses) == ([(8, 0.25), (20, -1e-9)], [])


def test_as_a_data_frame_it_holds_the_same_rows(history):
    frame = history.to_frame()
    assert list(frame.columns) == ["name", "env_step", "value"]
    assert list(frame.itertuples(index=False, name=None)) == history.rows()


def test_half_an_episode_is_forgotten(history):
    history.episode_ends.append(30)
    history.drop_half_an_episode()
    assert history.episode_ends == [8, 20]


def test_without_pandas_the_message_holds_the_command(history, missing):
    missing("pandas")
    with pytest.raises(MissingDependency) as caught:
        history.to_frame()
    one_sentence(caught.value, "`pip install pandas`", "to_csv()")
