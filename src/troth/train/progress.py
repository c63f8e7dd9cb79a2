"""What a person sees of a training run, on standard error: a live bar in a terminal, a line now and then elsewhere."""

from types import TracebackType

from troth.train.metrics import Metrics


class Progress:
    """Use as a context manager and call it with each report."""

    def __init__(self, title: str):
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self.title = title
        self.console = Console(stderr=True, highlight=False)
        self.shown = -1
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}")
        self.bar = Bar(*columns, console=self.console, disable=not self.console.is_terminal)
        self.task = self.bar.add_task(title, total=None, state="starting")

    def __call__(self, m: Metrics) -> None:
        """Show one report."""
        left = f"{int(m.seconds_left) // 60}:{int(m.seconds_left) % 60:02d} left"
        dead = f", {m.dead_experts} dead" if m.dead_experts else ""
        state = (
            f"step {m.step}/{m.steps}  loss {m.loss:.3f}  {m.tokens_per_second:,.0f} tokens/s  "
            f"expert load {m.load_entropy:.2f}{dead}  {left}"
        )
        self.bar.update(self.task, total=m.steps, completed=m.step, state=state)
        tenth = m.step * 10 // m.steps
        if not self.console.is_terminal and tenth > self.shown:
            self.shown = tenth
            self.console.print(f"{self.title}  {state}", soft_wrap=True)

    def __enter__(self) -> "Progress":
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.bar.stop()
