"""Studies: lessons x seeds (x hyperparameters) on every core or on a cluster, one small file per training, resumable at any moment.

    study = run_study(["ppo", "actor_critic"], range(20), folder="build/my_study")
    study.summary()["ppo"]["solved"]          # of 20, with its interval
    study.to_csv("my_study.csv")

Killed, interrupted or out of disk, a study goes on where it stopped when the same call is made again: a result that is there is read, not
repeated.
"""

from cartpole_lessons.study.code import lesson_code
from cartpole_lessons.study.results import RESULTS, StudyError, machine, nameless, read_figures, read_results, write_figures, write_results
from cartpole_lessons.study.run import Study, read_study, run_study
from cartpole_lessons.study.statistics import (
    HEADINGS,
    by_row,
    is_ablation,
    median_interval,
    ranges,
    readable,
    steps_until_solved,
    summarise,
    trains_on,
    wilson_interval,
    worst_of_last,
)

__all__ = [
    "HEADINGS", "RESULTS", "Study", "StudyError", "by_row", "is_ablation", "lesson_code", "machine", "median_interval", "nameless", "ranges", "read_figures",
    "read_results", "read_study", "readable", "run_study", "steps_until_solved", "summarise", "trains_on", "wilson_interval", "worst_of_last",
    "write_figures", "write_results",
]  # fmt: skip
