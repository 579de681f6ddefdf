"""Silent bugs for lesson 12: each is the course's own code with one text in it replaced, so that the bug is all that differs.

bug = BUGS["zero_grad"]
print(bug.code)          # the function that it sits in, with line numbers
bug.find(7)              # is it in line 7?
bug.train(seed=0)        # trains as the lesson does, with the bug
"""

import ast
import difflib
import inspect
import linecache
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.abc import ExecutionLoader
from importlib.util import module_from_spec, spec_from_loader
from types import ModuleType

from cartpole_lessons.errors import InvalidInput
from cartpole_lessons.exercises import Card
from cartpole_lessons.lessons import ALGORITHMS, Changes, what_changed


class _Mutant(ExecutionLoader):
    """Loads a module from its source, without a file."""

    def __init__(self, source: str) -> None:
        self._source = source

    def get_source(self, fullname: str) -> str:
        return self._source

    def get_filename(self, fullname: str) -> str:
        return f"<{fullname}>"


@dataclass(frozen=True)
class Bug:
    """One bug: in `function` of the module `lesson`, `buggy` stands where `sound` should."""

    name: str
    lesson: str
    function: str
    sound: str  #: occurs once in the module
    buggy: str
    hint: str
    why: str  #: what it does
    test: str  #: what would have caught it

    @property
    def _sound_module(self) -> ModuleType:
        return import_module(f"{ALGORITHMS}.{self.lesson}")

    @cached_property
    def source(self) -> str:
        """The whole module, with the bug."""
        text = inspect.getsource(self._sound_module)
        if text.count(self.sound) != 1:
            raise InvalidInput(
                f"The bug {self.name} has lost its place: {self.lesson} holds {text.count(self.sound)} times {self.sound!r}."
            )
        return text.replace(self.sound, self.buggy)

    @cached_property
    def module(self) -> ModuleType:
        """The lesson's module with the bug in it. It is in no file, and nothing imports it."""
        name = f"{self.lesson}_with_{self.name}"
        # `@training` reads what is said of the hyperparameters from the source, and a traceback shows it.
        linecache.cache[f"<{name}>"] = (len(self.source), None, self.source.splitlines(keepends=True), f"<{name}>")
        loader = _Mutant(self.source)
        module = module_from_spec(spec_from_loader(name, loader))
        loader.exec_module(module)
        return module

    @property
    def train(self) -> Callable:
        """The lesson's `train`, with the bug."""
        return self.module.train

    def _function(self, source: str) -> list[str]:
        """The lines of the function that the bug sits in, without decorators' and docstrings' lines."""
        tree = ast.parse(source)
        (node,) = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == self.function)
        body = node.body[1:] if isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant) else node.body
        lines = source.splitlines()[body[0].lineno - 1 : node.end_lineno]
        return textwrap.dedent("\n".join(lines)).splitlines()

    @property
    def code(self) -> str:
        """The inside of the function that the bug sits in, with a number before each line."""
        return f"inside of {self.function}() of {self.lesson}:\n" + "\n".join(
            f"{number:>3}  {line}" for number, line in enumerate(self._function(self.source), 1)
        )

    @property
    def lines(self) -> set[int]:
        """Numbers of the lines in `code` that differ from the sound ones, or between which one is missing."""
        buggy = self._function(self.source)
        sound = self._function(inspect.getsource(self._sound_module))
        found = set()
        for tag, _, _, start, end in difflib.SequenceMatcher(None, sound, buggy, autojunk=False).get_opcodes():
            if tag in ("replace", "insert"):
                found |= set(range(start + 1, end + 1))
            elif tag == "delete":
                found |= {start, start + 1}
        return found

    def find(self, line: int) -> Card:
        """Is the bug in this line of `code`? Where a line is missing, a neighbour of the gap is right."""
        if line is None or line is ...:
            return Card("not attempted", "Put the number of a line in the place of the dots. A wrong one earns you a hint.")
        if line in self.lines:
            return Card("right", self.why)
        return Card("wrong", f"Not there. {self.hint}")

    @property
    def diff(self) -> Changes:
        """What was sound (+) in the place of the bug (-)."""
        return what_changed(*(getattr(module, self.function) for module in (self.module, self._sound_module)))


#: In the order of the lesson.
BUGS = {
    bug.name: bug
    for bug in (
        Bug(
            "zero_grad",
            "policy_gradient",
            "train",
            sound="        optimizer.zero_grad()\n        loss.backward()",
            buggy="        loss.backward()",
            hint="What does backward() do with the gradients that are there already?",
            why="Gradients are added up and never cleared: each step follows all batches since the beginning, old policies' too.",
            test="After two updates, the gradient left in the parameters is that of the second batch alone.",
        ),
        Bug(
            "past_returns",
            "policy_gradient",
            "discounted_returns",
            sound="    for step in reversed(range(len(rewards))):",
            buggy="    for step in range(len(rewards)):",
            hint="A push is judged by what comes after it. In which order are the rewards added up?",
            why="It adds up what came before a push in place of what came after it.",
            test="discounted_returns of rewards 0, 0, 1 is largest at the end, and not zero at the beginning.",
        ),
        Bug(
            "truncated_as_fall",
            "actor_critic",
            "n_step_returns",
            sound="follows = torch.where(truncated[step], next_values[step], follows) * ~terminated[step]",
            buggy="follows = follows * ~(terminated[step] | truncated[step])",
            hint="Two flags end an episode. Do both of them end the world?",
            why="Where time runs out the critic is told that nothing follows, as if the pole had fallen.",
            test="n_step_returns of a truncated step contains the value of the state it led to.",
        ),
        Bug(
            "not_detached",
            "actor_critic",
            "update",
            sound="advantages = normalise((returns - values[:-1].detach())[steps.mask])",
            buggy="advantages = normalise((returns - values[:-1])[steps.mask])",
            hint="Who is changed by the actor's loss?",
            why="The actor's loss has a gradient with respect to the critic, which is pulled away from predicting well.",
            test="After backward() of the actor's loss alone, no parameter of the critic has a gradient.",
        ),
        Bug(
            "misaligned",
            "ppo",
            "update",
            sound="old_log_probs[batch]).exp()",
            buggy="old_log_probs[: len(batch)]).exp()",
            hint="A ratio compares two probabilities of one push. Are these of one push?",
            why="The new probability of one push is divided by the old probability of another.",
            test="Before the first step of the optimizer all ratios are 1.",
        ),
        Bug(
            "wrong_shape",
            "dqn",
            "update",
            sound="chosen = values.gather(-1, batch.actions[:, None]).squeeze(-1)",
            buggy="chosen = values.gather(-1, batch.actions[:, None])",
            hint="Write the shape behind each line.",
            why="Shapes (n, 1) and (n,) are broadcast to (n, n): every value is pulled towards every target of the batch.",
            test="assert chosen.shape == targets.shape",
        ),
        Bug(
            "same_object",
            "dqn",
            "train",
            sound="target = copy.deepcopy(network).requires_grad_(False)",
            buggy="target = network",
            hint="How many networks are there?",
            why="The target network is the network itself: each update moves the target that it is chasing.",
            test="After one update the target's weights differ from the network's.",
        ),
        Bug(
            "endless_future",
            "dqn",
            "transitions",
            sound="discounts=discount * ~steps.terminated[mask],",
            buggy="discounts=torch.full_like(steps.rewards[mask], discount),",
            hint="What is the state worth in which the pole has just fallen?",
            why="A fallen pole is promised the same future as a standing one, so that falling costs nothing.",
            test="The target of a transition that terminated is its reward.",
        ),
        Bug(
            "last_step_dropped",
            "dqn",
            "transitions",
            sound="    mask = steps.mask\n    return Transition(",
            buggy="    mask = steps.mask & ~steps.terminated\n    return Transition(",
            hint="Which transitions get into the memory, and which do not?",
            why="The transition in which the pole falls is thrown away: the memory has never seen a fall.",
            test="In a batch of 1,000 steps as many transitions have discount 0 as episodes terminated.",
        ),
        Bug(
            "reset_steps",
            "dqn",
            "transitions",
            sound="    mask = steps.mask\n    return Transition(",
            buggy="    mask = torch.ones_like(steps.mask)\n    return Transition(",
            hint="Did each of these steps really happen? See the end of lesson 00.",
            why="Steps that only reset an environment are learned from: they lead from a fallen pole to a standing one.",
            test="No transition begins outside of the limits of the track and of the angle.",
        ),
        Bug(
            "episode_epsilon",
            "dqn",
            "train",
            sound="epsilon_at(run.env_steps, ",
            buggy="epsilon_at(len(run.history.episode_returns), ",
            hint="epsilon_decay is 1,000. A thousand of what?",
            why="Exploration is to shrink within 1,000 steps, and here it takes 1,000 episodes.",
            test="After 5,000 steps epsilon is close to epsilon_end.",
        ),
        Bug(
            "one_for_all",
            "augmented_random_search",
            "train",
            sound="UPDATES[method](directions, plus, minus, top_directions)",
            buggy="UPDATES[method](directions, plus, minus, top_directions).mean()",
            hint="How many numbers does an update of four weights consist of?",
            why="The mean is taken over everything: one number is left, and is added to all weights alike.",
            test="assert update.shape == weights.shape",
        ),
    )
}
